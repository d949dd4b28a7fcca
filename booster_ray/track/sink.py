"""What a tracker is to us, and the console's part; write a new tracker by writing these methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from booster_ray.config import Config
from booster_ray.track.tracked_runs import Row, State, TrackedRun

Say = Callable[[str], object]
"""Shows one line to the user."""


class Reopen(Exception):
    """Raised by :meth:`Sink.send`: earlier rows are wanted too, ``open`` says from where on."""


class Sink(Protocol):
    """Told of runs, from one thread. Every method may raise and may take long: the same is tried
    again later, after :meth:`open`, and training does not notice.
    """

    where: str
    """To whom reports go, for people."""

    def open(self, subject: TrackedRun, newest: int) -> int:
        """Begin a run, or go on with it.

        Args:
            subject: which.
            newest: env steps of its newest report, -1 where there is none.

        Returns:
            Env steps of the newest row that the tracker holds, -1 for none: rows beyond are sent.
        """
        ...

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        """Take rows, in order. Where it raises, ``open`` says how many were taken."""
        ...

    def update(self, subject: TrackedRun, state: State) -> None:
        """Take how it goes now."""
        ...

    def close(self, subject: TrackedRun, state: State) -> None:
        """It has ended, or this process ends; what was taken is kept for good."""
        ...

    def farewell(self) -> str:
        """After all was closed: what to type to see or send what was kept; may be empty."""
        ...


def make_sink(name: str, config: Config, root: Path, say: Say) -> Sink:
    """The tracker of that name; packages load here.

    Raises:
        ImportError: its package is missing.
    """
    if name == "wandb":
        from booster_ray.track.wandb_sink import WandbSink

        return WandbSink(config.tracking.wandb, root, say)
    if name == "console":
        return ConsoleSink(say)
    if name == "mlflow":
        from booster_ray.track.mlflow_sink import MlflowSink

        return MlflowSink(config, root)
    from booster_ray.track.tensorboard_sink import TensorboardSink

    return TensorboardSink(root)


class ConsoleSink:
    """A :class:`booster_ray.track.sink.Sink`; says each alert once, but for old ones."""

    where = "console"

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: dict[str, set[str]] = {}

    def open(self, subject: TrackedRun, newest: int) -> int:
        """See :class:`Sink`."""
        return newest

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        """Others show reports."""

    def update(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Sink`."""
        told = self._told.setdefault(subject.id, set(state.alerts))
        for line in state.alerts:
            if line not in told:
                self._say(f"{subject.name}: {line}")
        told.update(state.alerts)

    def close(self, subject: TrackedRun, state: State) -> None:
        """There is nothing to keep."""

    def farewell(self) -> str:
        """See :class:`Sink`."""
        return ""
