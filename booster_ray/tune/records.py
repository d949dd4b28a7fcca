"""What a sweep knows of one trial, which the tables and the report read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from booster_ray.store.progress import History

Status = Literal["PENDING", "RUNNING", "TERMINATED", "STOPPED", "ERROR", "PAUSED"]
"""STOPPED: ended early by the scheduler. TERMINATED: ran to its budget."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial, from its suggestion to its last report."""

    trial_id: str
    number: int
    """0-based, in the order of suggestion."""
    status: Status
    params: dict[str, object]
    """Swept values by dotted config key."""
    history: History
    """One dict per report: `env_steps` (control steps so far), `wall_seconds`,
    `env_steps_per_second`, `episode_return`, `episode_seconds` and losses. Reports with an
    evaluation add `score` (mean official score over tasks), `score/<task>`,
    `survival/<task>` (mean seconds) and `fall_rate/<task>` (0 to 1)."""
    target_env_steps: int
    """Budget in control steps."""
    checkpoint: str | None
    """Path of the newest checkpoint."""
    error: str | None
    """One line."""
    started: bool
    """Whether its process has begun at least once."""
    gates: str | None = None
    """What the gates said of its best checkpoint: :func:`booster_ray.store.gate_results.label`."""
    robustness: float | None = None
    """The second objective, measured at its end."""

    @property
    def best_report(self) -> dict[str, float]:
        """The report with the highest finite score, the earliest of equals; `{}` without one."""
        return self.history.best

    @property
    def best_score(self) -> float | None:
        """Highest finite official mean score."""
        return self.history.best_score

    def objective(self, name: str) -> float | None:
        """A trial's value of one of `tune.objectives`; None: not known, or not finite."""
        return finite({"score": self.best_score, "robustness": self.robustness}[name])

    @property
    def last_score(self) -> float | None:
        """Official mean score of the newest evaluation that gave a finite one."""
        return self.history.latest("score")

    @property
    def env_steps(self) -> int:
        """Control steps done so far."""
        return int(self.history.latest("env_steps") or 0)

    @property
    def steps_per_second(self) -> float | None:
        """Newest control steps per second."""
        return self.history.latest("env_steps_per_second")

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end of the budget at the newest rate; None unless it is running."""
        rate = self.steps_per_second
        if self.status != "RUNNING" or not rate or rate < 0:
            return None
        return max(self.target_env_steps - self.env_steps, 0) / rate


def rank(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Best score first, trials without a score last, ties by number."""

    def order(record: TrialRecord) -> tuple[float, int]:
        score = record.best_score
        return (math.inf if score is None else -score, record.number)

    return sorted(records, key=order)


def pareto_front(records: Iterable[TrialRecord]) -> set[int]:
    """Numbers of the trials that no other beats in score and robustness both.

    Only trials with both are compared; without a second objective the front is empty.
    """
    known = [
        (score, robust, record.number)
        for record in records
        if (score := record.best_score) is not None
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
