"""What a notice of preemption makes a run do."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import driving
import pytest
from train.metadata import Google, serving

from booster_ray.config import Config, Trainer, load
from booster_ray.store import checkpoint
from booster_ray.store.attempts import read_attempts
from booster_ray.store.files import read_progress
from booster_ray.train import preemption
from booster_ray.train.notices import Notice, NoticeFile, Notify, Source
from booster_ray.train.preemption import Preempted, Watch

LONG = ("training.env_steps=100_000", "checkpoint.every_env_steps=100_000")
SEEDED = ("randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4")


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


def test_a_deadline_far_off_leaves_the_run_alone_until_the_grace_begins() -> None:
    told = threading.Event()

    def soon(notify: Notify, _: threading.Event) -> None:
        notify(Notice("drain", deadline=time.time() + 11.0))

    with Watch(Trainer(grace_seconds=10.0), told.set, [soon]) as watch:
        driving.wait_for(lambda: watch.notice)
        assert not told.is_set()
        assert told.wait(10)


def test_only_the_first_notice_counts(tmp_path: Path) -> None:
    calls: list[int] = []
    (tmp_path / "notice").touch()
    sources: list[Source] = [NoticeFile(tmp_path / "notice")] * 3
    with Watch(Trainer(), lambda: calls.append(1), sources) as watch:
        driving.wait_for(lambda: watch.notice)
        time.sleep(1)
    assert calls == [1]


def debug(storage: Path, *more: str) -> Config:
    return load("debug", [f"storage={storage}", "name=one", *SEEDED, *more]).base()


def test_a_notice_saves_at_once_and_the_run_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint is due for long: what is there at the end, the notice has made."""
    run, cloud = tmp_path / "one", Google()

    def report(metrics: dict[str, Any]) -> None:
        if metrics["env_steps"] >= 300:
            cloud.preempt()

    with serving(cloud) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        with pytest.raises(Preempted, match="Google preempts the machine: saved"):
            preemption.train_preemptibly(debug(tmp_path, *LONG), run, tmp_path / "no", report)
    monkeypatch.delenv("GCE_METADATA_HOST")
    (saved,) = run.glob("step_*")
    reached = read_progress(run)[-1]["env_steps"]
    assert checkpoint.load(saved)[1]["env_steps"] == reached
    (attempt,) = read_attempts(run)
    assert attempt["how"] == "preempted" and attempt["env_steps"] == reached
    assert attempt["seconds"] is not None

    seen: list[float] = []

    def again(metrics: dict[str, Any]) -> None:
        seen.append(metrics["env_steps"])
        (run / preemption.NOTICE_FILE).touch()

    with pytest.raises(Preempted, match="preemption-notice"):
        preemption.train_preemptibly(debug(tmp_path, *LONG), run, tmp_path / "no", again)
    # Not one step was made again: done is what was saved, and what comes after it.
    assert seen[0] > reached


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("workers", "signum"),
    [
        (0, signal.SIGTERM),
        (0, signal.SIGHUP),
        (0, signal.SIGUSR1),
        *(
            pytest.param(1, signum, marks=SLOW)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        ),
    ],
)
def test_a_command_that_gets_a_signal_saves_and_loses_no_step(
    tmp_path: Path, workers: int, signum: signal.Signals
) -> None:
    bound = f"trainer.workers={workers}"
    process = driving.start(
        "debug", f"storage={tmp_path}", "name=one", *driving.QUICK, *LONG, bound,
        "evaluation.every=100_000", module="train",  # one that is cut short leaves no report
    )  # fmt: skip
    run = tmp_path / "one"
    driving.wait_for(lambda: len(read_progress(run)) >= 3 or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    known = read_progress(run)[-1]["env_steps"]
    process.send_signal(signum)
    code, output = driving.finish(process)
    assert code == 130, output
    assert "Traceback" not in output
    (saved,) = run.glob("step_*")
    assert int(saved.name.split("_")[1]) == read_progress(run)[-1]["env_steps"] >= known
