"""The report in headless Chromium: at both widths and schemes, sorted by a click, a film played."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import driving
import imageio.v2 as imageio
import numpy as np
import pytest

from booster_ray.store.progress import History
from booster_ray.tune.details import Details, Interruption
from booster_ray.tune.records import TrialRecord
from booster_ray.tune.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LAPTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=["made", pytest.param("swept", marks=pytest.mark.slow)])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of twenty trials."""
    folder = tmp_path_factory.mktemp("report")
    return made(folder) if request.param == "made" else swept(folder)


def swept(folder: Path) -> Path:
    """Of a sweep, with its films."""
    told = ("tune.trials=20", "tune.films=true", f"storage={folder}", "trainer.cpus=1")
    code, output = driving.run("debug", "name=twenty", *told)
    assert code == 0, output
    return folder / "twenty" / "report.html"


def made(folder: Path) -> Path:
    """Some preempted, and a film of half a second."""
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
        params: dict[str, object] = {"sac.critic_lr": 10.0 ** -rng.uniform(2, 5), "level": n % 3}
        records.append(
            TrialRecord(
                f"{n:04d}", n, "TERMINATED", params, History(history), 800, None, None, True
            )
        )
    notices = [Interruption("0003", "2026-11-28 10:00", "preempted", 400, 1.0, "SIGTERM")]
    details = Details(films={"goalie": film.read_bytes()}, interruptions=notices, config="a: 1\n")
    path = folder / "report.html"
    facts = {"seed": "0", "config": "0123456789ab" * 8}
    write_report(path, "twenty trials", records, {"sac.critic_lr": 0.8}, None, facts, details)
    return path


@contextmanager
def opened(browser: Any, page: Path, size: tuple[int, int], scheme: str) -> Iterator[Any]:
    """With every chart drawn; at the end, nothing was complained of."""
    width, height = size
    shown = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
    said: list[str] = []
    shown.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.goto(page.as_uri())
    undrawn = "document.querySelectorAll('[data-chart]:not(:has(.main-svg))').length"
    shown.wait_for_function(f"{undrawn} === 0", timeout=120_000)
    yield shown
    shown.close()
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_it_draws_and_fits(browser: Any, page: Path, size: tuple[int, int], scheme: str) -> None:
    with opened(browser, page, size, scheme) as shown:
        width = shown.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0]  # wide tables scroll in themselves
        ink = shown.evaluate("getComputedStyle(document.body).color")
        assert (sum(map(int, ink[4:-1].split(","))) > 380) == (scheme == "dark")


def test_a_click_on_a_heading_sorts(browser: Any, page: Path) -> None:
    read = """(heading) => {
        const table = document.querySelector('table[data-sortable]');
        const heads = [...table.tHead.rows[0].cells];
        const column = heads.findIndex((head) => head.textContent.trim() === heading);
        heads[column].querySelector('button').click();
        return [heads[column].getAttribute('aria-sort'),
                [...table.tBodies[0].rows].map((row) => row.cells[column].textContent.trim())];
    }"""
    with opened(browser, page, LAPTOP, "light") as shown:
        for heading in ("score", "critic_lr"):
            order, cells = shown.evaluate(read, heading)
            assert order == "descending" and len(cells) == 20
            assert [float(c) for c in cells] == sorted(map(float, cells), reverse=True)
            order, cells = shown.evaluate(read, heading)
            assert order == "ascending" and [float(c) for c in cells] == sorted(map(float, cells))
        _, names = shown.evaluate(read, "trial")
        assert names == sorted(names, reverse=True)


def test_a_film_plays(browser: Any, page: Path) -> None:
    play = """() => new Promise((done) => {
        const film = document.querySelector('video');
        film.addEventListener('timeupdate', () => film.currentTime > 0 && done(film.currentTime));
        film.play().catch((error) => done(String(error)));
    })"""
    with opened(browser, page, LAPTOP, "light") as shown:
        assert float(shown.evaluate(play)) > 0
