"""The report in headless Chromium: at both widths and schemes, sorted by a click, a film played."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from booster_ray.store.progress import History
from booster_ray.tune.details import Details, Interruption
from booster_ray.tune.records import TrialRecord
from booster_ray.tune.report import write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(DRIVER is None, reason="Chromium and its driver are not installed")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
LAPTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty trials, some preempted, and a film of half a second."""
    folder = tmp_path_factory.mktemp("report")
    film = folder / "film.mp4"
    frames = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(12)]
    imageio.mimwrite(film, frames, fps=25)
    rng = np.random.default_rng(0)
    records = []
    for n in range(20):
        history = [
            {"env_steps": 100.0 * i, "score": float(rng.normal() + i), "reward/alive": float(i),
             "critic_loss": 1.0 / i, "episode_return": float(i), "survival/goalie": float(i)}
            for i in range(1, 9)
        ]  # fmt: skip
        params: dict[str, object] = {"sac.actor_lr": 10.0 ** -rng.uniform(2, 5), "level": n % 3}
        records.append(
            TrialRecord(
                f"{n:04d}", n, "TERMINATED", params, History(history), 800, None, None, True
            )
        )
    notices = [Interruption("0003", "2026-11-28 10:00", "preempted", 400, 1.0, "SIGTERM")]
    details = Details(films={"goalie": film.read_bytes()}, interruptions=notices, config="a: 1\n")
    path = folder / "report.html"
    facts = {"seed": "0", "config": "0123456789ab" * 8}
    write_report(path, "twenty trials", records, {"sac.actor_lr": 0.8}, None, facts, details)
    return path


def opened(browser: Any, page: Path, size: tuple[int, int], scheme: str) -> None:
    """With every chart drawn."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    preferred = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
    browser.get_log("browser")  # what an earlier page said
    browser.get(page.as_uri())
    undrawn = "return document.querySelectorAll('[data-chart]:not(:has(.main-svg))').length"
    deadline = time.monotonic() + 60
    while browser.execute_script(undrawn) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert browser.execute_script(undrawn) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_it_draws_fits_and_complains_of_nothing(
    browser: Any, page: Path, size: tuple[int, int], scheme: str
) -> None:
    opened(browser, page, size, scheme)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]  # wide tables scroll in themselves
    ink = browser.execute_script("return getComputedStyle(document.body).color")
    assert (sum(map(int, ink[4:-1].split(","))) > 380) == (scheme == "dark")
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_click_on_a_heading_sorts(browser: Any, page: Path) -> None:
    opened(browser, page, LAPTOP, "light")
    read = """
        const table = document.querySelector('table[data-sortable]');
        const heads = [...table.tHead.rows[0].cells];
        const column = heads.findIndex((head) => head.textContent.trim() === arguments[0]);
        heads[column].querySelector('button').click();
        return [heads[column].getAttribute('aria-sort'),
                [...table.tBodies[0].rows].map((row) => row.cells[column].textContent.trim())];
    """
    for heading in ("score", "actor_lr"):
        order, cells = browser.execute_script(read, heading)
        assert order == "descending" and len(cells) == 20
        assert [float(c) for c in cells] == sorted(map(float, cells), reverse=True)
        order, cells = browser.execute_script(read, heading)
        assert order == "ascending" and [float(c) for c in cells] == sorted(map(float, cells))
    _, names = browser.execute_script(read, "trial")
    assert names == sorted(names, reverse=True)


def test_a_film_plays(browser: Any, page: Path) -> None:
    opened(browser, page, LAPTOP, "light")
    play = """
        const done = arguments[arguments.length - 1], film = document.querySelector('video');
        film.addEventListener('timeupdate', () => film.currentTime > 0 && done(film.currentTime));
        film.play().catch((error) => done(String(error)));
    """
    assert float(browser.execute_async_script(play)) > 0
