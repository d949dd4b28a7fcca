"""Evaluations end when they are asked to, and when their episodes do not; none is lost."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest

from booster_ray.config import Config, load
from booster_ray.evaluate import scores as evaluation
from booster_ray.store import checkpoint
from booster_ray.store.files import read_progress
from booster_ray.train.run import Run, train_reporting

pytestmark = pytest.mark.usefixtures("compiled_once")

SETTINGS = (
    "world=gym:train.slow_env:Slow-v0", "world.num_envs=3", "training.env_steps=360",
    "training.report_every=60", "evaluation.every=180", "sac.replay_size=256",
    "tracking.listeners=[]", "randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4",
)  # fmt: skip


def configured(*overrides: str) -> Config:
    return load("debug", [*SETTINGS, *overrides]).base()


def timeless(reports: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in r.items() if "second" not in k} for r in reports]


@pytest.fixture
def interrupted_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], threading.Event]:
    """An event that is set in the middle of the evaluation of that number."""

    def arrange(number: int) -> threading.Event:
        event, play, calls = threading.Event(), evaluation._play, 0

        def playing(world: Any, policy: Any, first: Any, interrupt: Any) -> Any:
            nonlocal calls
            calls += 1
            steps = 0

            def counting(observation: np.ndarray) -> np.ndarray:
                nonlocal steps
                steps += 1
                if calls == number + 1 and steps == 3:
                    event.set()
                return policy(observation)

            return play(world, counting, first, interrupt)

        monkeypatch.setattr(evaluation, "_play", playing)
        return event

    return arrange


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    list(Run(configured(), folder))
    return folder


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_evaluation_that_was_cut_short_is_made_by_the_resumed_run(
    number: int, whole: Path, tmp_path: Path, interrupted_at: Callable[[int], threading.Event]
) -> None:
    cut = tmp_path / "cut"
    event = interrupted_at(number)
    told: list[dict[str, Any]] = []
    train_reporting(configured(), cut, tmp_path / "stop", told.append, event)
    assert told[-1]["env_steps"] == 180 * number and not told[-1]["finished"]
    # Not one report is recorded that lacks what is due in it.
    assert [r["env_steps"] for r in read_progress(cut)] == [60 * i for i in range(3 * number)]
    list(Run(configured(), cut))
    assert timeless(read_progress(cut)) == timeless(read_progress(whole))
    last = "step_000000000360"
    one, other = (checkpoint.load(path / last)[0]["learner"] for path in (whole, cut))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_run_whose_episodes_never_end_is_evaluated_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endless = "world=gym:train.slow_env:Endless-v0"
    list(Run(configured(endless, "evaluation.max_steps=25"), tmp_path))
    scored = [r for r in read_progress(tmp_path) if "score" in r]
    assert [r["env_steps"] for r in scored] == [0, 180, 360]
    assert all(r["cut"] == 1 and r["survival"] == 25 for r in scored)
    said = [r.getMessage() for r in caplog.records if "evaluation.max_steps" in r.getMessage()]
    assert len(said) == 1 and "after 25 steps" in said[0]


def test_sigterm_ends_an_evaluation_within_the_grace(tmp_path: Path) -> None:
    """200 copies whose steps take 1 ms each, 1,000 steps an episode: 200 s of evaluation."""
    process = driving.start(
        "debug", *SETTINGS, "world=gym:train.slow_env:Long-v0", f"storage={tmp_path}", "name=one",
        "evaluation.episodes_per_task=200", "trainer.preemption_notice=none",
        module="train", PYTHONPATH=str(driving.ROOT / "tests"), SLOW_STARTED=str(tmp_path / "on"),
    )  # fmt: skip
    driving.wait_for(lambda: (tmp_path / "on").exists() or process.poll() is not None)
    time.sleep(1.0)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, output = driving.finish(process, timeout=60)
    assert code == 130 and "--resume one" in output, output
    assert time.monotonic() - asked < 15
    (saved,) = (tmp_path / "one").glob("step_*")
    assert json.loads((saved / "manifest.json").read_text())["metadata"]["env_steps"] == 0
