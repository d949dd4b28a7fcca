"""What a sweep knows of one trial: plain data that the tables and the report read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Status = Literal["PENDING", "RUNNING", "TERMINATED", "STOPPED", "ERROR", "PAUSED"]
"""STOPPED: ended early by the scheduler. TERMINATED: ran to its budget."""

"""Task suffixes of the report keys `score/…`, `survival/…` and `fall_rate/…`."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial, from its suggestion to its last report."""

    trial_id: str
    number: int
    """0-based, in the order of suggestion."""
    status: Status
    params: dict[str, object]
    """Swept values by dotted config key."""
    history: list[dict[str, float]]
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

    @property
    def best_report(self) -> dict[str, float]:
        """The report with the highest finite score, the earliest of equals; `{}` without one."""
        scored = [report for report in self.history if finite(report.get("score")) is not None]
        return max(scored, key=lambda report: report["score"], default={})

    @property
    def best_score(self) -> float | None:
        """Highest finite official mean score."""
        return finite(self.best_report.get("score"))

    def objective(self, name: str) -> float | None:
        """A trial's value of one of `tune.objectives`; robustness is measured at its end."""
        return self.best_score if name == "score" else self._latest(name)

    @property
    def last_score(self) -> float | None:
        """Official mean score of the newest evaluation that gave a finite one."""
        return self._latest("score")

    @property
    def env_steps(self) -> int:
        """Control steps done so far."""
        return int(self._latest("env_steps") or 0)

    @property
    def steps_per_second(self) -> float | None:
        """Newest control steps per second."""
        return self._latest("env_steps_per_second")

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end of the budget at the newest rate; None unless it is running."""
        rate = self.steps_per_second
        if self.status != "RUNNING" or not rate or rate < 0:
            return None
        return max(self.target_env_steps - self.env_steps, 0) / rate

    def to_json(self) -> dict[str, Any]:
        """A dict that strict JSON accepts; non-finite numbers become null."""
        return {key: json_ready(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialRecord:
        """The inverse of `to_json`; a null in the history is read as NaN.

        Raises ValueError when a field is missing or unknown, or the status is not one of ours.
        """
        names = {field.name for field in fields(cls)}
        if odd := names.symmetric_difference(data):
            raise ValueError(f"trial record: missing or unknown field: {', '.join(sorted(odd))}")
        if data["status"] not in get_args(Status):
            raise ValueError(f"trial record {data['trial_id']}: unknown status {data['status']!r}")
        history = [
            {key: math.nan if value is None else value for key, value in report.items()}
            for report in data["history"]
        ]
        return cls(**{**data, "params": dict(data["params"]), "history": history})

    def _latest(self, key: str) -> float | None:
        values = (finite(report.get(key)) for report in reversed(self.history))
        return next((value for value in values if value is not None), None)


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
        (record.number, score, robust)
        for record in records
        if (score := record.best_score) is not None
        and (robust := record.objective("robustness")) is not None
    ]
    return {
        number
        for number, score, robust in known
        if not any(s >= score and r >= robust and (s, r) != (score, robust) for _, s, r in known)
    }


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
