"""The console's part: alerts. Reports are shown where training is driven, not from beside it."""

from __future__ import annotations

from collections.abc import Sequence

from booster_ray.track.ledger import Row
from booster_ray.track.listener import Say
from booster_ray.track.subject import State, TrackedRun


class ConsoleListener:
    """A :class:`booster_ray.track.listener.Listener`; says each alert once, but for old ones."""

    where = "console"

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: dict[str, set[str]] = {}

    def open(self, subject: TrackedRun, newest: int) -> int:
        """See :class:`Listener`."""
        return newest

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        """Others show reports."""

    def update(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Listener`."""
        told = self._told.setdefault(subject.id, set(state.alerts))
        for line in state.alerts:
            if line not in told:
                self._say(f"{subject.name}: {line}")
        told.update(state.alerts)

    def close(self, subject: TrackedRun, state: State) -> None:
        """There is nothing to keep."""

    def farewell(self) -> str:
        """See :class:`Listener`."""
        return ""
