"""ASHA over several drivers: a new one judges as if it had been there from the beginning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from booster_ray.config import load
from booster_ray.tune.records import Status, TrialRecord
from booster_ray.tune.schedule import SweepASHA, make_scheduler

CONFIG = load(
    "debug",
    ["tune.scheduler=asha", "training.env_steps=900", "tune.grace_env_steps=300",
     "tune.reduction_factor=2"],
).base()  # fmt: skip


def record(number: int, status: Status, *scores: float) -> TrialRecord:
    """A trial with a score each 300 env steps, after that of the untrained policy."""
    history = [{"env_steps": 0.0, "score": 50.0}]
    history += [{"env_steps": 300.0 * (i + 1), "score": s} for i, s in enumerate(scores)]
    return TrialRecord(f"{number:04d}", number, status, {}, history, 900, None, None, True)


def scheduler(*records: TrialRecord) -> SweepASHA:
    found = make_scheduler(CONFIG, records)
    assert isinstance(found, SweepASHA)
    return found


def report(asha: SweepASHA, number: int, env_steps: int, score: float) -> str:
    trial: Any = SimpleNamespace(config={"number": number})
    asha.on_trial_add(None, trial)
    return asha.on_trial_result(None, trial, {"env_steps": env_steps, "score": score})


@pytest.mark.parametrize("status", ["RUNNING", "PENDING", "TERMINATED", "STOPPED", "ERROR"])
def test_a_trial_that_would_have_been_stopped_is_stopped_after_a_resume(status: Status) -> None:
    before = scheduler()
    for number in range(2):
        assert report(before, number, 300, 5.0 + number) == TrialScheduler.CONTINUE
    after = scheduler(record(0, status, 5.0), record(1, status, 6.0))
    for asha in (before, after):
        assert report(asha, 2, 300, 1.0) == TrialScheduler.STOP and asha.stopped == {2}


def test_a_resumed_trial_that_reports_again_does_not_count_twice() -> None:
    before, after = scheduler(), scheduler(record(0, "RUNNING", 5.0), record(1, "RUNNING", 9.0))
    report(before, 0, 300, 5.0), report(before, 1, 300, 9.0)
    # Trial 1 goes on from a checkpoint before its report. Twice 9 would raise the cut-off to 9.
    assert report(after, 1, 300, 9.0) == TrialScheduler.CONTINUE
    for asha in (before, after):
        assert report(asha, 2, 300, 8.0) == TrialScheduler.CONTINUE
        assert report(asha, 0, 600, 1.0) == TrialScheduler.CONTINUE  # the first there
        assert report(asha, 1, 600, 0.5) == TrialScheduler.STOP
        assert asha.stopped == {1}


def test_what_was_let_go_on_is_not_stopped_for_what_came_later() -> None:
    """Trial 0 was the first at its rung; better ones came after it."""
    records = record(0, "RUNNING", 1.0), record(1, "RUNNING", 5.0), record(2, "STOPPED", 0.5)
    after = scheduler(*records)
    assert report(after, 0, 300, 1.0) == TrialScheduler.CONTINUE and not after.stopped
