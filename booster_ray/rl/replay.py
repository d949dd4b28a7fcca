"""A ring buffer of transitions in host memory, sampled in stated shares over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from booster_ray.rl.nstep import fold
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.shares import apportion, task_weights
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.checkpoint.log import Log

FORMAT_1 = (
    "the replay was saved by an older release, whose format is not read any more; "
    "finish the run with that release, or begin it anew"
)


class Replay:
    """The last transitions of every world.

    Rows are grouped by insertion: each :meth:`add` writes one transition for each of ``lanes``
    worlds, whose tasks do not change, so the rows of a task are known without looking, and the
    steps that follow a transition stand in the rows after it. A transition is one row of
    float32, so that one gather, and one miss of the cache, serves all its fields.

    Args:
        capacity: transitions kept, rounded down to whole insertions.
        task: int (lanes,): the task of each lane.
        observation_size: numbers in an observation.
        action_size: numbers in an action.
        n_step: steps folded into a sampled transition, see :func:`nstep.fold`.
        discount: γ per step; needed where ``n_step`` is above 1.
        shares: weight of each task, indexed by task number; None: equal ones.

    Raises:
        ValueError: capacity below one insertion, ``n_step`` below 1, or shares that
            :func:`shares.task_weights` refuses.
    """

    def __init__(
        self,
        capacity: int,
        task: np.ndarray,
        observation_size: int,
        action_size: int,
        *,
        n_step: int = 1,
        discount: float = 1.0,
        shares: Sequence[float] | None = None,
    ) -> None:
        lanes = len(task)
        if capacity < lanes:
            raise ValueError(f"replay of {capacity} cannot hold one step of {lanes} worlds")
        if n_step < 1:
            raise ValueError(f"n_step is {n_step}; expected at least 1")
        tasks = np.unique(task)
        self._lanes = [np.flatnonzero(task == t) for t in tasks]
        self._weights = task_weights(tasks, shares)
        self._n_step, self._discount = n_step, discount
        self._columns = _columns(observation_size, action_size)
        self._sizes = {"observation_size": observation_size, "action_size": action_size}
        if n_step == 1:
            del self._columns["truncated"]
        size = 2 * observation_size + action_size + len(_SCALARS)
        self._data = np.zeros((capacity // lanes, lanes, size), np.float32)
        self._added = 0
        """Insertions ever made; the newest ``len(self._data)`` are kept."""

    @property
    def _next(self) -> int:
        return self._added % len(self._data)

    @property
    def _filled(self) -> int:
        return min(self._added, len(self._data))

    @property
    def inserted(self) -> int:
        """Transitions ever inserted, also those that newer ones have replaced."""
        return self._added * self._data.shape[1]

    def __len__(self) -> int:
        return self._filled * self._data.shape[1]

    def add(self, batch: Batch, truncated: np.ndarray | None = None) -> None:
        """Insert one transition a lane.

        Args:
            batch: transitions of one step; arrays lead with (lanes,).
            truncated: bool (lanes,): time ended the episode with this step. Needed where
                ``n_step`` is above 1: what follows a row need not be of its episode.

        Raises:
            ValueError: ``n_step`` is above 1 and ``truncated`` is missing.
        """
        if self._n_step > 1 and truncated is None:
            raise ValueError(f"a replay of {self._n_step} steps must be told what was truncated")
        fields = {**batch._asdict(), "truncated": truncated}
        for name, column in self._columns.items():
            self._data[self._next, :, column] = fields[name]
        self._added += 1

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """``shape`` = (updates, batch) transitions, each task with its share of every batch.

        Raises:
            ValueError: the replay is empty.
        """
        if not self._filled:
            raise ValueError("cannot sample from an empty replay")
        rows = rng.integers(0, self._filled, shape)
        counts = apportion(shape[1], self._weights)
        lanes = np.concatenate(
            [
                group[rng.integers(0, len(group), (shape[0], count))]
                for group, count in zip(self._lanes, counts, strict=True)
            ],
            axis=1,
        )
        batch = self._gather(rows, lanes)
        return batch if self._n_step == 1 else self._fold(batch, rows, lanes)

    def _gather(self, rows: np.ndarray, lanes: np.ndarray) -> Batch:
        """Transitions of one step at (updates, batch) places, as views of one copy."""
        size = self._data.shape[2]
        index = rows * self._data.shape[1] + lanes
        found = self._data.reshape(-1, size).take(index.ravel(), axis=0)
        found = found.reshape(*index.shape, size)
        return Batch(*(found[..., self._columns[name]] for name in _FIELDS))

    def _fold(self, batch: Batch, rows: np.ndarray, lanes: np.ndarray) -> Batch:
        """Transitions of ``n_step`` steps from those that begin them; fewer near the newest."""
        steps = np.arange(self._n_step)[:, None, None]
        window = (rows + steps) % len(self._data)
        scalars = self._data[window, lanes, -len(_SCALARS) :]
        reward, terminated, truncated = np.moveaxis(scalars, -1, 0)
        newest = (self._next - 1 - rows) % len(self._data)
        ended = (terminated + truncated > 0) | (steps >= newest)
        total, follow, last = fold(reward, terminated, ended, self._discount)
        end = self._gather((rows + last) % len(self._data), lanes)
        return Batch(
            batch.observation, batch.action, total, end.next_observation, end.terminated, follow
        )

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Its insertions as a log, of which a checkpoint copies and writes only what is new.

        The log is read from the buffer: a row that later insertions have overwritten is refused.
        """
        return {
            "added": self._added,
            "filled": self._filled,
            "capacity": len(self._data),
            "n_step": self._n_step,
            **self._sizes,
            "rows": self._log(self._data),
        }

    def _log(self, array: np.ndarray) -> Log:
        """An array whose first axis is the ring's as a log of insertions."""
        return Log(self._added - self._filled, self._added, partial(self._read, array))

    def _read(self, array: np.ndarray, first: int, end: int) -> np.ndarray:
        """A copy of insertions ``first`` to ``end``, counted from the first ever made."""
        if first < self._added - self._filled or end > self._added:
            raise LookupError(f"insertions {first} to {end} are not in the replay any more")
        begin, capacity = first % len(array), len(array)
        if begin + end - first <= capacity:
            return array[begin : begin + end - first].copy()
        return np.concatenate([array[begin:], array[: end % capacity]])

    def _place(self, array: np.ndarray, rows: Any) -> None:
        """Put the newest insertions where the ring has them, a piece at a time."""
        array[:] = 0
        log = Log.of(rows)
        oldest = self._added - len(log)
        for at, piece in log.pieces():
            first = oldest + at - log.start
            array[np.arange(first, first + len(piece)) % len(array)] = piece

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a saved buffer.

        Raises:
            ValueError: it was saved with another capacity or number of worlds, or without the
                truncations that ``n_step`` above 1 needs.
            CheckpointError: it was saved by an older release.
        """
        if "added" not in state:
            raise CheckpointError(FORMAT_1)
        capacity, lanes, _ = self._data.shape
        rows = state["rows"]
        if state["capacity"] != capacity or rows.shape[1] != lanes:
            raise ValueError(
                f"saved replay holds {state['capacity']} x {rows.shape[1]} transitions; "
                f"this one {capacity} x {lanes}"
            )
        if self._n_step > 1 and state["n_step"] == 1:
            raise ValueError("saved replay lacks truncated; it was saved with n_step 1")
        self._added = state["added"]
        self._place(self._data, rows)


def newest(state: dict[str, Any], most: int) -> dict[str, Any]:
    """The newest insertions of a saved state, a state of its own of ``most`` transitions or fewer.

    At least one insertion; ``rows`` is an array (insertions, lanes, numbers), the oldest first.
    """
    rows = np.asarray(state["rows"])
    kept = rows[-max(1, most // rows.shape[1]) :]
    count = len(kept)
    return {**state, "added": count, "filled": count, "capacity": count, "rows": kept}


_FIELDS = ("observation", "action", "reward", "next_observation", "terminated")
_SCALARS = ("reward", "terminated", "truncated")


def _columns(observation: int, action: int) -> dict[str, slice | int]:
    """Where each field of a transition stands in its row; scalars last, in one cache line."""
    columns: dict[str, slice | int] = {
        "observation": slice(observation),
        "action": slice(observation, observation + action),
        "next_observation": slice(observation + action, 2 * observation + action),
    }
    first = 2 * observation + action
    return columns | {name: first + i for i, name in enumerate(_SCALARS)}
