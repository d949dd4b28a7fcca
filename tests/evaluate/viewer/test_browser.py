"""The page in a browser: it shows the match, and what is clicked happens."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from booster_ray.evaluate.viewer.match import Match
from booster_ray.evaluate.viewer.policies import load_policy, watched_folder
from policies import save_checkpoint, tiny_config

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for pictures of what is tested."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]

viser = pytest.importorskip("viser", reason="the extra `view` is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def eventually(holds: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that goes on: a config, and a first checkpoint."""
    config = tiny_config()
    save_checkpoint(tmp_path / "run" / "step_000000000100", config)
    (tmp_path / "run" / "config.yaml").write_text(config.to_yaml())
    return tmp_path / "run"


@pytest.fixture
def page(run: Path) -> Iterator[Any]:
    from booster_ray.evaluate.viewer.panel import Page

    second = load_policy(str(Path(__file__).parents[3] / "policies" / "striker"))
    match = Match([load_policy(str(run)), second], "goalie", seed=3)
    made, ended = Page(match, "127.0.0.1", 18080, watched_folder(str(run))), threading.Event()
    thread = threading.Thread(target=made.run, args=(ended.is_set,))
    thread.start()
    yield made
    ended.set()
    thread.join(60)
    made.stop()


@pytest.fixture
def tab() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--use-gl=angle",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
        )  # fmt: skip
        opened = browser.new_page(viewport={"width": 1280, "height": 720})
        opened.set_default_timeout(120_000)
        yield opened
        browser.close()


def shoot(tab: Any, name: str) -> None:
    if SHOTS:
        tab.screenshot(path=str(Path(SHOTS) / f"{name}.png"), timeout=180_000)


def test_it_is_steered_in_the_browser(page: Any, tab: Any, run: Path) -> None:
    wrong: list[str] = []
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(page.url)
    tab.get_by_text("score").first.wait_for()
    tab.get_by_text("robot_distance_ball").first.wait_for()
    tab.locator("canvas").first.wait_for()
    eventually(lambda: page.match.seconds > 0.5 or page.match.over)
    shoot(tab, "goalie")

    tab.get_by_label("play", exact=True).first.uncheck()
    eventually(lambda: not page._playing.value)
    before = page.match.seconds
    tab.get_by_role("button", name="step").click()
    eventually(lambda: page.match.seconds == pytest.approx(before + 0.02))

    tab.get_by_role("button", name="reset").click()
    eventually(lambda: page.match.seconds == 0.0)
    still = page.match.sides[1].robot()[0]
    tab.get_by_role("button", name="forward").click()
    eventually(lambda: page.match.disturbed)
    for _ in range(5):
        tab.get_by_role("button", name="step").click()
    eventually(lambda: page.match.seconds == pytest.approx(0.1))
    assert page.match.sides[1].robot()[0] < still - 0.05  # it looks along -x
    tab.get_by_text("disturbed").first.wait_for()

    tab.get_by_label("task").click()
    tab.get_by_role("option", name="obstacle").click()
    eventually(lambda: page.match.task == "obstacle" and page._display.task == "obstacle")
    tab.get_by_text("goal_scored").first.wait_for()
    shoot(tab, "obstacle")

    newer = save_checkpoint(run / "step_000000000200", tiny_config())
    eventually(lambda: newer in page._known)
    tab.get_by_role("button", name="play the newest").click()
    tab.get_by_text("run/step_000000000200").first.wait_for()
    eventually(lambda: page.match.policies[0].name == "run/step_000000000200")
    shoot(tab, "swapped")
    assert wrong == []


def test_checkpoints_take_over_by_themselves(page: Any, tab: Any, run: Path) -> None:
    tab.goto(page.url)  # nothing plays where nobody looks
    eventually(lambda: page.match.seconds > 0)
    newer = save_checkpoint(run / "step_000000000300", tiny_config())
    eventually(lambda: newer in page._known)
    eventually(lambda: page._waiting is not None or page.match.policies[0].name.endswith("300"))
    page.do(lambda: setattr(page, "_speed", 4.0))
    eventually(lambda: page.match.policies[0].name == "run/step_000000000300", 300)
