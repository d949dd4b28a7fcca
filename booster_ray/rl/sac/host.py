"""SAC with its state and its replay buffer, as worlds on the host drive it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.rl import guards, normalizer
from booster_ray.rl.demonstrations import Demonstrations, beside
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.tree import from_tree, to_tree


class Shown(NamedTuple):
    """Demonstrations that take part in every update."""

    demonstrations: Demonstrations
    share: float
    """Part of each batch."""
    digest: str
    """Of their contents: a run goes on with none but its own."""


class HostSac:
    """A learner of :mod:`booster_ray.train.host_collector`.

    Args:
        sac: its functions.
        replay: what it learns from.
        starts: transitions in ``replay`` before the first update.
        seed: of its parameters and its noise.
        shown: demonstrations that its batches hold besides; the normalization begins with what was
            seen in them. None: none.
    """

    def __init__(
        self, sac: Sac, replay: Replay, starts: int, seed: int, shown: Shown | None = None
    ) -> None:
        self._sac, self.replay, self.starts, self._shown = sac, replay, starts, shown
        self._state: SacState = sac.init(seed)
        if shown is not None:
            seen = normalizer.of(shown.demonstrations.observation)
            self._state = self._state._replace(normalizer=seen)
        self._metrics: dict[str, jax.Array] = {}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return np.asarray(self._sac.act_mean(self._state, observation))

    def explore(
        self,
        observation: np.ndarray,
        expert: np.ndarray | None,
        env_steps: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Sampled actions; the normalization takes the observations in."""
        self._state, sampled = self._sac.act(self._state, observation)
        return guards.check_action(np.asarray(sampled))

    def relabel(self, batch: Batch) -> Batch:
        """Transitions are stored as they were played."""
        return batch

    def update(self, env_steps: int, rng: np.random.Generator) -> None:
        """Begin ``updates_per_step`` updates.

        JAX computes in threads of its own and waits for them where the next action is asked for:
        the update runs while the worlds step, and learns from transitions up to the step before.
        """
        sac = self._sac.bound(self._sac.numbers_at(env_steps))
        self._state, self._metrics = sac.update(self._state, self._sampled(rng))

    def imitate(self, lr: float, rng: np.random.Generator) -> None:
        """As :meth:`update`, of the actor alone: towards the actions in ``replay``."""
        self._state, self._metrics = self._sac.imitate(
            self._state, self._sampled(rng), jnp.float32(lr)
        )

    def _sampled(self, rng: np.random.Generator) -> Batch:
        updates, size = self._sac.config.updates_per_step, self._sac.config.batch_size
        if self._shown is None:
            return self.replay.sample((updates, size), rng)
        old = round(self._shown.share * size)
        new = self.replay.sample((updates, size - old), rng)
        return beside(new, self._shown.demonstrations.sample((updates, old), rng))

    def metrics(self) -> dict[str, float]:
        """Of the newest updates."""
        return {name: float(value) for name, value in self._metrics.items()}

    def state(self) -> dict[str, Any]:
        """``learner``: everything that learning changes; and which demonstrations took part."""
        shown = {} if self._shown is None else {"demonstrations": self._shown.digest}
        return {"learner": to_tree(self._state), **shown}

    def restore(self, tree: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken; raises ValueError where it does not fit."""
        if self._shown is not None:
            check_digest(tree, self._shown.digest)
        self._state = from_tree(self._state, tree["learner"])


def check_digest(tree: dict[str, Any], digest: str) -> None:
    """See that a run goes on with the demonstrations that it had.

    Raises:
        ValueError: they are others.
    """
    if (before := tree.get("demonstrations")) != digest:
        raise ValueError(
            f"replay.demonstrations is {digest} now; the run began with {before}: a changed "
            "dataset needs a new run"
        )
