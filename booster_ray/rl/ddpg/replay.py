"""Replay of rewards in parts, so that a schedule weighs old transitions as it weighs new ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.rl.nstep import fold
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.losses import Batch

PARTS = ("dense", "official", "penalty")
"""What a reward is the weighted sum of."""


class AnnealedReplay(Replay):
    """A :class:`Replay` whose rewards are put together when they are sampled.

    Args:
        demonstrated: keep what a demonstrator would have done, too.

    The others are those of :class:`Replay`.
    """

    weights: tuple[float, ...] = (1.0,) * len(PARTS)
    """Of the parts, in what is sampled from now on."""

    def __init__(
        self,
        capacity: int,
        task: np.ndarray,
        *sizes: int,
        demonstrated: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(capacity, task, *sizes, **options)
        places = self._data.shape[:2]
        self._parts = np.zeros((*places, len(PARTS)), np.float32)
        self._demonstrated: np.ndarray | None = None
        if demonstrated:
            self._demonstrated = np.zeros((*places, self._sizes["action_size"]), np.float32)

    def add(self, batch: Batch, truncated: np.ndarray | None = None) -> None:
        """As :meth:`Replay.add`, of rewards in parts.

        Args:
            batch: transitions of one step; its reward is float (lanes, len(PARTS)), its
                ``demonstrated`` is used where that is kept.
            truncated: see :meth:`Replay.add`.
        """
        self._parts[self._next] = batch.reward
        if self._demonstrated is not None:
            self._demonstrated[self._next] = batch.demonstrated
        super().add(batch._replace(reward=np.zeros(len(batch.reward), np.float32)), truncated)

    def _gather(self, rows: np.ndarray, lanes: np.ndarray) -> Batch:
        batch = super()._gather(rows, lanes)._replace(reward=self._reward(rows, lanes))
        if self._demonstrated is None:
            return batch
        return batch._replace(demonstrated=self._demonstrated[rows, lanes])

    def _reward(self, rows: np.ndarray, lanes: np.ndarray) -> np.ndarray:
        weights = np.asarray(self.weights, np.float32)
        return np.asarray(self._parts[rows, lanes] @ weights)

    def _fold(self, batch: Batch, rows: np.ndarray, lanes: np.ndarray) -> Batch:
        """As :meth:`Replay._fold`, of rewards put together."""
        steps = np.arange(self._n_step)[:, None, None]
        window = (rows + steps) % len(self._data)
        terminated = self._data[window, lanes, self._columns["terminated"]]
        truncated = self._data[window, lanes, self._columns["truncated"]]
        ended = (terminated + truncated > 0) | (steps >= (self._next - 1 - rows) % len(self._data))
        reward = self._reward(window, lanes)
        total, follow, last = fold(reward, terminated, ended, self._discount)
        end = super()._gather((rows + last) % len(self._data), lanes)  # its reward is in total
        return batch._replace(
            reward=total,
            next_observation=end.next_observation,
            terminated=end.terminated,
            discount=follow,
        )

    def state(self) -> dict[str, Any]:
        """See :meth:`Replay.state`."""
        state = super().state() | {"parts": self._log(self._parts)}
        if self._demonstrated is not None:
            state["demonstrated"] = self._log(self._demonstrated)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a saved buffer; raises as :meth:`Replay.restore` does."""
        super().restore(state)
        self._place(self._parts, state["parts"])
        if self._demonstrated is not None:
            self._place(self._demonstrated, state["demonstrated"])


def stacked(first: Batch, second: Batch) -> Batch:
    """Both batches' transitions in each update; arrays (updates, batch, ...) with discounts.

    What a demonstrator would have done is not among them.
    """
    pairs = zip(first[:-1], second[:-1], strict=True)
    return Batch(*(np.concatenate(pair, axis=1) for pair in pairs))


def with_discount(batch: Batch, discount: float) -> Batch:
    """A batch of one-step transitions that says by what factor the value follows."""
    if batch.discount is not None:
        return batch
    return batch._replace(discount=np.float32(discount) * (1.0 - batch.terminated))
