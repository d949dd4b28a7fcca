"""ASHA that a new driver can bring up to date."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from booster_ray.config import Config
from booster_ray.tune.records import TrialRecord


class SweepASHA(AsyncHyperBandScheduler):
    """Asynchronous successive halving (Li et al. 2020) over ``env_steps`` and ``score``.

    Trials are known by their number in the study rather than by Ray's id, which changes with
    every driver; :meth:`replay` enters what earlier drivers saw. Of a trial with several seeds the
    first alone is judged, and with it the trial: the others run when it has come to its end.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stopped: set[int] = set()
        """Numbers of the trials that it has ended early."""

    def replay(self, records: Iterable[TrialRecord]) -> None:
        """Enter the reports of all trials so far, those under way among them.

        A trial that makes a report again after its checkpoint is not entered twice: its rung has
        its number. What was decided then is not decided anew, for others have reported since.
        """
        for record in records:
            stub = _Numbered(record.number)
            self.on_trial_add(None, stub)
            for report in record.history:
                self._enter(stub, report)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give a new number its bracket; a resumed one keeps its own."""
        known = _by_number(trial)
        if known.trial_id not in self._trial_info:
            super().on_trial_add(tune_controller, known)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue, or stop a trial that is not among the best of its rung."""
        if trial.config.get("repeat"):
            return str(TrialScheduler.CONTINUE)
        decision = self._enter(_by_number(trial), result)
        if decision == TrialScheduler.STOP:
            self.stopped.add(trial.config["number"])
        return decision

    def _enter(self, known: _Numbered, report: dict[str, Any]) -> str:
        # Only reports with an evaluation count, and an untrained policy's does not.
        if not report.get("env_steps"):
            return TrialScheduler.CONTINUE
        return str(super().on_trial_result(None, known, report))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Enter the last report of a trial that ran to its end."""
        if not trial.config.get("repeat"):
            super().on_trial_result(tune_controller, _by_number(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial that failed keeps its place; it may be retried."""


class _Numbered(SimpleNamespace):
    """As much of a Tune trial as ASHA looks at."""

    def __init__(self, number: int) -> None:
        super().__init__(trial_id=f"trial-{number}")


def _by_number(trial: Any) -> _Numbered:
    return trial if isinstance(trial, _Numbered) else _Numbered(trial.config["number"])


def make_scheduler(config: Config, records: Iterable[TrialRecord]) -> TrialScheduler:
    """The scheduler of a sweep, brought up to date with what earlier drivers saw of its trials."""
    if config.tune.scheduler != "asha":
        return FIFOScheduler()
    budget = config.training.env_steps
    scheduler = SweepASHA(
        time_attr="env_steps",
        metric="score",
        mode="max",
        # Never stop at the budget: the loop ends there by itself, after its last checkpoint.
        max_t=budget,
        stop_last_trials=False,
        grace_period=min(config.tune.grace_env_steps, budget),
        reduction_factor=config.tune.reduction_factor,
    )
    scheduler.replay(records)
    return scheduler
