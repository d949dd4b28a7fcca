"""TensorBoard: event files in ``tensorboard/`` of the sweep's or run's folder.

Like W&B's offline files they are written whole by each process, for a kill cuts them short.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from booster_ray.store.files import trial_name
from booster_ray.track.tracked_runs import Row, State, TrackedRun

FOLDER = "tensorboard"


class TensorboardSink:
    """A :class:`booster_ray.track.sink.Sink`; ``root``: the folder of the sweep or run."""

    def __init__(self, root: Path) -> None:
        from tensorboardX import SummaryWriter

        self._make, self._folder = SummaryWriter, root / FOLDER
        self.where = str(self._folder)
        self._writers: dict[str, Any] = {}
        self._files = 0
        self._last: dict[str, int] = {}

    def open(self, subject: TrackedRun, newest: int) -> int:
        """See :class:`Sink`."""
        if subject.kind == "sweep":
            return newest
        if subject.id not in self._last:
            shutil.rmtree(self._of(subject), ignore_errors=True)
            self._last[subject.id] = -1
        return self._last[subject.id]

    def _of(self, subject: TrackedRun) -> Path:
        """Its folder; those of a trial's seeds lie beside one another."""
        name = trial_name(subject.directory) or subject.directory.name
        return self._folder / name.replace("/", "_")

    def _writer(self, subject: TrackedRun) -> Any:
        if subject.id not in self._writers:
            # Files are named after the second they are made in, and one may follow soon.
            self._files += 1
            folder = str(self._of(subject))
            suffix = f".{self._files}"
            writer = self._make(folder, flush_secs=10, filename_suffix=suffix)
            self._writers[subject.id] = writer
        return self._writers[subject.id]

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        """See :class:`Sink`."""
        writer, began = self._writer(subject), subject.began
        for row in rows:
            if row.env_steps <= self._last[subject.id]:
                continue
            at = began + row.metrics.get("wall_seconds", 0.0)
            for name, value in row.metrics.items():
                writer.add_scalar(name, value, row.env_steps, walltime=at)
            self._last[subject.id] = row.env_steps

    def update(self, subject: TrackedRun, state: State) -> None:
        """It keeps numbers alone."""

    def close(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Sink`."""
        # Its flush does not wait for what is still on the way to its thread.
        if writer := self._writers.pop(subject.id, None):
            writer.close()

    def farewell(self) -> str:
        """See :class:`Sink`."""
        return f"TensorBoard: tensorboard --logdir {self._folder}"
