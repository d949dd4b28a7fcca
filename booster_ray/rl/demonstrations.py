"""Recorded episodes to sample from, beside a replay or instead of one.

Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data" (RLPD): half of every
batch is drawn from the offline data ("symmetric sampling"), the other half from the replay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from booster_ray.rl.nstep import fold
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.shares import apportion, task_weights


class Demonstrations:
    """Episodes that never change; of M rows, an episode of T steps has T + 1.

    Args:
        observation: float32 (M, obs), episode after episode.
        action: float32 (M, act); that of an episode's last row is none.
        reward: float32 (M,).
        steps: int (E,): T of each episode.
        terminated: bool (E,): nothing follows its last step; else its value is bootstrapped.
        task: int (E,): task number of each episode.
        n_step: steps folded into a sampled transition, see :func:`nstep.fold`.
        discount: γ per step; needed where ``n_step`` is above 1.
        shares: weight of each task, indexed by task number; None: equal ones.

    Raises:
        ValueError: arrays of different lengths, or shares that :func:`shares.task_weights` refuses.
    """

    def __init__(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        steps: np.ndarray,
        terminated: np.ndarray,
        task: np.ndarray,
        *,
        n_step: int = 1,
        discount: float = 1.0,
        shares: Sequence[float] | None = None,
    ) -> None:
        rows = int((steps + 1).sum())
        if {len(observation), len(action), len(reward)} != {rows}:
            found = [len(observation), len(action), len(reward)]
            raise ValueError(f"arrays of {found} rows; expected {rows}")
        self.observation, self._action, self._reward = observation, action, reward
        self._n_step, self._discount = n_step, discount
        first = np.concatenate([[0], np.cumsum(steps + 1)[:-1]])
        last = first + steps - 1  # the row of an episode's last action
        self._ended = np.zeros(rows, bool)
        self._ended[last] = True
        self._terminated = np.zeros(rows, np.float32)
        self._terminated[last] = terminated
        starts = np.ones(rows, bool)
        starts[first + steps] = False
        owner = np.repeat(task, steps + 1)
        tasks = np.unique(task)
        self._starts = [np.flatnonzero(starts & (owner == t)) for t in tasks]
        self._weights = task_weights([int(t) for t in tasks], shares)

    def __len__(self) -> int:
        return sum(len(group) for group in self._starts)

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """``shape`` = (updates, batch) transitions, each task with its share of every batch."""
        counts = apportion(shape[1], self._weights)
        rows = [
            group[rng.integers(0, len(group), (shape[0], count))]
            for group, count in zip(self._starts, counts, strict=True)
        ]
        return self._batch(np.concatenate(rows, axis=1))

    def evenly(self, most: int) -> Batch:
        """At most so many one-step transitions, spread over all episodes; arrays (n, ...)."""
        every = np.sort(np.concatenate(self._starts))
        rows = every[np.linspace(0, len(every) - 1, min(most, len(every))).astype(int)]
        return self._one_step(rows)

    def whole(self) -> tuple[list[np.ndarray], np.ndarray, Batch]:
        """All transitions (n, ...), task after task.

        Returns:
            The rows of each task's transitions, the tasks' weights, and the transitions.
        """
        return self._starts, self._weights, self._batch(np.concatenate(self._starts))

    def _batch(self, rows: np.ndarray) -> Batch:
        return self._one_step(rows) if self._n_step == 1 else self._fold(rows)

    def _one_step(self, rows: np.ndarray) -> Batch:
        return Batch(
            self.observation[rows],
            self._action[rows],
            self._reward[rows],
            self.observation[rows + 1],
            self._terminated[rows],
        )

    def _fold(self, rows: np.ndarray) -> Batch:
        """Transitions of ``n_step`` steps, fewer where their episode ends."""
        steps = np.arange(self._n_step).reshape(-1, *[1] * rows.ndim)
        # What lies behind an end does not count, but must be a row.
        window = np.minimum(rows + steps, len(self._reward) - 1)
        total, follow, last = fold(
            self._reward[window], self._terminated[window], self._ended[window], self._discount
        )
        end = rows + last
        return Batch(
            self.observation[rows],
            self._action[rows],
            total.astype(np.float32),
            self.observation[end + 1],
            self._terminated[end],
            follow.astype(np.float32),
        )


def beside(first: Batch, second: Batch) -> Batch:
    """Both batches' transitions in each update; arrays (updates, batch, ...)."""
    pairs = zip(first, second, strict=True)
    return Batch(
        *(None if one is None else np.concatenate([one, other], axis=1) for one, other in pairs)
    )
