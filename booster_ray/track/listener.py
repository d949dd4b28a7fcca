"""What a tracker is to us; write a new one by writing these methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from booster_ray.config import Config
from booster_ray.track.ledger import Row
from booster_ray.track.subject import State, TrackedRun

Say = Callable[[str], object]
"""Shows one line to the user."""


class Reopen(Exception):
    """Raised by :meth:`Listener.send`: earlier rows are wanted too, ``open`` says from where on."""


class Listener(Protocol):
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


def make_listener(name: str, config: Config, root: Path, say: Say) -> Listener:
    """The tracker of that name; packages load here.

    Raises:
        ImportError: its package is missing.
    """
    if name == "wandb":
        from booster_ray.track.wandb_listener import WandbListener

        return WandbListener(config.tracking.wandb, root, say)
    if name == "console":
        from booster_ray.track.console import ConsoleListener

        return ConsoleListener(say)
    if name == "mlflow":
        from booster_ray.track.mlflow_listener import MlflowListener

        return MlflowListener(config, root)
    from booster_ray.track.tensorboard import TensorboardListener

    return TensorboardListener(root)
