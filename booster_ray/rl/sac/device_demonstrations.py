"""Demonstrations on the device, beside a replay there, for use inside ``jit`` and ``lax.scan``."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.rl.demonstrations import Demonstrations
from booster_ray.rl.sac import device_replay
from booster_ray.rl.sac.device_replay import DeviceReplay, Rings, Step
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.shares import apportion


class Numbers(NamedTuple):
    """What may differ between replays of one structure; on the device."""

    replay: device_replay.Numbers
    """Of the replay's part of a batch."""
    shown: Batch
    """All demonstrations, arrays (N, ...), task after task."""
    first: jax.Array
    """int32 (batch - replay's,): where the task of each begins in ``shown``."""
    size: jax.Array
    """int32, likewise: how many it has."""


class ShownReplay:
    """A :class:`DeviceReplay` whose batches hold demonstrations besides, which never change.

    Args:
        replay: keeps what is inserted.
        demonstrations: of as many steps as its transitions.
        share: part of each batch.
    """

    def __init__(self, replay: DeviceReplay, demonstrations: Demonstrations, share: float) -> None:
        self._replay, self._share = replay, share
        self._groups, self._weights, self._shown = demonstrations.whole()
        self._bound: Numbers | None = None
        sizes = tuple(len(group) for group in self._groups)
        self.structure: Hashable = (replay.structure, share, sizes)
        """What replays share that share their compiled functions."""

    def numbers(self, batch: int) -> Numbers:
        """Its numbers, for batches of one size; on the device."""
        old = round(self._share * batch)
        counts = np.array([len(group) for group in self._groups])
        firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        group = np.repeat(np.arange(len(counts)), apportion(old, self._weights))
        return Numbers(
            self._replay.numbers(batch - old),
            jax.tree.map(jnp.asarray, self._shown),
            jnp.asarray(firsts[group], jnp.int32),
            jnp.asarray(counts[group], jnp.int32),
        )

    def bound(self, numbers: Numbers) -> ShownReplay:
        """This replay with other numbers, which may be traced; it gives batches of their size."""
        other = copy.copy(self)
        other._replay, other._bound = self._replay.bound(numbers.replay), numbers
        return other

    def init(self) -> Rings:
        """See :class:`DeviceReplay`, also below."""
        return self._replay.init()

    def insert(self, rings: Rings, step: Step) -> Rings:
        """Insert one transition a lane; demonstrations are as they were."""
        return self._replay.insert(rings, step)

    def sample(self, rings: Rings, key: jax.Array, shape: tuple[int, int]) -> Batch:
        """``shape`` = (updates, batch) transitions, the replay's first."""
        told = self.numbers(shape[1]) if self._bound is None else self._bound
        new_key, old_key = jax.random.split(key)
        old = len(told.first)
        new = self._replay.sample(rings, new_key, (shape[0], shape[1] - old))
        place = told.first + jax.random.randint(old_key, (shape[0], old), 0, told.size)
        shown = jax.tree.map(lambda part: part[place], told.shown)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), new, shown)

    def state(self, rings: Rings) -> dict[str, Any]:
        """Of the replay alone."""
        return self._replay.state(rings)

    def restored(self, rings: Rings, state: dict[str, Any]) -> Rings:
        """The replay's rings, as :meth:`DeviceReplay.restored` gives them."""
        return self._replay.restored(rings, state)
