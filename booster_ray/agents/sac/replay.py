"""A ring buffer of transitions in host memory, sampled evenly over tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.agents.sac.losses import Batch


class Replay:
    """The last transitions of every world.

    Rows are grouped by insertion: each :meth:`add` writes one transition for each of ``lanes``
    worlds, whose tasks do not change, so the rows of a task are known without looking.

    Args:
        capacity: transitions kept, rounded down to whole insertions.
        task: int (lanes,): the task of each lane.
        observation_size: numbers in an observation.
        action_size: numbers in an action.

    Raises:
        ValueError: capacity below one insertion.
    """

    def __init__(
        self, capacity: int, task: np.ndarray, observation_size: int, action_size: int
    ) -> None:
        lanes = len(task)
        if capacity < lanes:
            raise ValueError(f"replay of {capacity} cannot hold one step of {lanes} worlds")
        self._rows = capacity // lanes
        shape = (self._rows, lanes)
        self._lanes = [np.flatnonzero(task == t) for t in np.unique(task)]
        self._data = Batch(
            observation=np.zeros((*shape, observation_size), np.float32),
            action=np.zeros((*shape, action_size), np.float32),
            reward=np.zeros(shape, np.float32),
            next_observation=np.zeros((*shape, observation_size), np.float32),
            terminated=np.zeros(shape, np.float32),
        )
        self._next = 0
        self._filled = 0

    def __len__(self) -> int:
        return self._filled * self._data.reward.shape[1]

    def add(self, batch: Batch) -> None:
        """Insert one transition a lane; arrays lead with (lanes,)."""
        for stored, new in zip(self._data, batch, strict=True):
            stored[self._next] = new
        self._next = (self._next + 1) % self._rows
        self._filled = min(self._filled + 1, self._rows)

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """``shape`` = (updates, batch) transitions, each task with an equal share of the batch.

        Raises:
            ValueError: the replay is empty.
        """
        if not self._filled:
            raise ValueError("cannot sample from an empty replay")
        rows = rng.integers(0, self._filled, shape)
        share = np.array_split(np.arange(shape[1]), len(self._lanes))
        lanes = np.concatenate(
            [
                group[rng.integers(0, len(group), (shape[0], len(part)))]
                for group, part in zip(self._lanes, share, strict=True)
            ],
            axis=1,
        )
        return Batch(*(stored[rows, lanes] for stored in self._data))

    def state(self) -> dict[str, Any]:
        """The filled part of the buffer and its position."""
        arrays = {k: v[: self._filled].copy() for k, v in self._data._asdict().items()}
        return {"next": self._next, "filled": self._filled, "rows": self._rows, **arrays}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a saved buffer.

        Raises:
            ValueError: it was saved with another capacity or number of worlds.
        """
        lanes = state["reward"].shape[1]
        if state["rows"] != self._rows or lanes != self._data.reward.shape[1]:
            raise ValueError(
                f"saved replay holds {state['rows']} x {lanes} transitions; "
                f"this one {self._rows} x {self._data.reward.shape[1]}"
            )
        self._next, self._filled = state["next"], state["filled"]
        for name, stored in self._data._asdict().items():
            stored[: self._filled] = state[name]
