"""What a sweep knows of one trial, which the tables and the report read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from booster_ray.config.experiments import EXPERIMENT
from booster_ray.store.progress import History

Status = Literal["PENDING", "RUNNING", "TERMINATED", "STOPPED", "ERROR", "PAUSED"]
"""STOPPED: ended early by the scheduler. TERMINATED: ran to its budget."""


@dataclass(frozen=True)
class SeedRecord:
    """One of a trial's runs, which differ in the seed alone."""

    history: History
    """See :class:`TrialRecord`."""
    robustness: float | None = None
    """The second objective, measured at its end."""

    def objective(self, name: str) -> float | None:
        """The run's value of one of `tune.objectives`; None: not known, or not finite."""
        return finite({"score": self.history.best_score, "robustness": self.robustness}[name])


@dataclass(frozen=True)
class TrialRecord:
    """One trial, from its suggestion to its last report.

    With `tune.seeds` above 1 it has several runs; what is said of the trial is then the mean over
    those that have come so far, each at its own best, and what is said of a policy is the best's.
    """

    trial_id: str
    number: int
    """0-based, in the order of suggestion."""
    status: Status
    params: dict[str, object]
    """Swept values by dotted config key; in a sweep of experiments, `experiment` before them."""
    history: History
    """Of the first run, one dict per report: `env_steps` (control steps so far), `wall_seconds`,
    `env_steps_per_second`, `episode_return`, `episode_seconds` and losses. Reports with an
    evaluation add `score` (mean official score over tasks), `score/<task>`,
    `survival/<task>` (mean seconds) and `fall_rate/<task>` (0 to 1)."""
    target_env_steps: int
    """Budget in control steps, of all seeds."""
    checkpoint: str | None
    """Path of the best checkpoint, of the best run."""
    error: str | None
    """One line."""
    started: bool
    """Whether its process has begun at least once."""
    gates: str | None = None
    """What the gates said of its best checkpoint: :func:`booster_ray.store.gate_results.label`."""
    robustness: float | None = None
    """The second objective of the first run, measured at its end."""
    seeds: int = 1
    """Runs that it is to have."""
    more: tuple[SeedRecord, ...] = ()
    """Runs beside the first, as far as they have reported."""
    interrupted: int = 0
    """Attempts at its runs that did not reach the run's end."""

    @property
    def experiment(self) -> str | None:
        """The name of the experiment that it is, in a sweep of experiments."""
        name = self.params.get(EXPERIMENT)
        return None if name is None else str(name)

    @property
    def label(self) -> str:
        """What a table or a curve calls it: its number, and its experiment's name."""
        return f"{self.trial_id} {self.experiment}" if self.experiment else self.trial_id

    @property
    def settings(self) -> dict[str, object]:
        """`params` without the experiment, which has a place of its own."""
        return {key: value for key, value in self.params.items() if key != EXPERIMENT}

    @property
    def runs(self) -> tuple[SeedRecord, ...]:
        """The first, and those that have come after it."""
        return (SeedRecord(self.history, self.robustness), *self.more)

    def run(self, repeat: int) -> SeedRecord:
        """One of them, by its number; an empty one where it has not come yet."""
        return self.runs[repeat] if repeat < len(self.runs) else SeedRecord(History())

    @property
    def is_whole(self) -> bool:
        """Whether it has all the runs that it is to have; one run is a whole by itself."""
        return self.seeds == 1 or (len(self.runs) == self.seeds and self.status != "ERROR")

    @property
    def best_run(self) -> int:
        """Number of the run with the best score, the first of equals."""
        scores = [run.history.best_score for run in self.runs]
        return max(range(len(scores)), key=lambda i: -math.inf if (s := scores[i]) is None else s)

    @property
    def best_report(self) -> dict[str, float]:
        """The report with the highest finite score, the earliest of equals; `{}` without one."""
        return self.run(self.best_run).history.best

    @property
    def best_score(self) -> float | None:
        """Highest finite official mean score; the mean over runs of each run's."""
        return self.objective("score")

    @property
    def seed_scores(self) -> list[float]:
        """Highest finite score of each run that has one."""
        scores = (run.history.best_score for run in self.runs)
        return [score for score in scores if score is not None]

    def objective(self, name: str) -> float | None:
        """A trial's value of one of `tune.objectives`; None: not known, or not finite."""
        values = (run.objective(name) for run in self.runs)
        return mean([value for value in values if value is not None])

    @property
    def last_score(self) -> float | None:
        """Official mean score of the newest evaluation that gave a finite one."""
        return self._latest("score")

    @property
    def env_steps(self) -> int:
        """Control steps done so far, summed over runs."""
        return sum(int(run.history.latest("env_steps") or 0) for run in self.runs)

    @property
    def steps_per_second(self) -> float | None:
        """Newest control steps per second."""
        return self._latest("env_steps_per_second")

    @property
    def updates_per_second(self) -> float | None:
        """Newest gradient updates per second."""
        return self._latest("updates_per_second")

    def last_scores(self, tasks: Iterable[str]) -> dict[str, float | None]:
        """Score of the newest evaluation of each task."""
        return {task: self._latest(f"score/{task}") for task in tasks}

    def _latest(self, key: str) -> float | None:
        known = (run.history.latest(key) for run in reversed(self.runs))
        return next((value for value in known if value is not None), None)

    def curve(self, key: str) -> NDArray[np.float64]:
        """(control steps, value), ``(n, 2)``; the mean over runs where all have reported."""
        first, *others = (run.history.curve(key) for run in self.runs)
        for other in others:
            _, ours, theirs = np.intersect1d(first[:, 0], other[:, 0], return_indices=True)
            # `first` holds a sum until all are in.
            first = np.column_stack([first[ours, 0], first[ours, 1] + other[theirs, 1]])
        return np.column_stack([first[:, 0], first[:, 1] / len(self.runs)]) if others else first

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end of the budget at the newest rate; None unless it is running."""
        rate = self.steps_per_second
        if self.status != "RUNNING" or not rate or rate < 0:
            return None
        return max(self.target_env_steps - self.env_steps, 0) / rate


def rank(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Best score first, trials without a score last, ties by number.

    A trial that lacks some of its seeds comes after those that have all: one seed may be lucky,
    where the mean over several is less so.
    """

    def order(record: TrialRecord) -> tuple[bool, bool, float, int]:
        score = record.best_score
        return (score is None, not record.is_whole, -(score or 0.0), record.number)

    return sorted(records, key=order)


def pareto_front(records: Iterable[TrialRecord]) -> set[int]:
    """Numbers of the trials that no other beats in score and robustness both.

    Only trials with both are compared; without a second objective the front is empty.
    """
    known = [
        (score, robust, record.number)
        for record in records
        if record.is_whole
        and (score := record.best_score) is not None
        and (robust := record.objective("robustness")) is not None
    ]
    front: set[int] = set()
    best, highest = (-math.inf, -math.inf), -math.inf
    for score, robust, number in sorted(known, reverse=True):
        # Those before score as much or more.
        if robust > highest or (score, robust) == best:
            front.add(number)
            best, highest = (score, robust), robust
    return front


def mean(values: Sequence[float]) -> float | None:
    """Their mean; None without any. One value is itself, to the last bit."""
    return math.fsum(values) / len(values) if values else None


def finite(value: object) -> float | None:
    """The value as a float, or None when it is not a finite number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def json_ready(value: object) -> Any:
    """Plain JSON data: NumPy scalars unboxed, tuples as lists, non-finite as None, else str."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        # float() also unboxes np.float64, which is a float.
        return finite(value)
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    return str(value)
