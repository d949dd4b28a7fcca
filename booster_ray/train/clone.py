"""What binds a config of stage ``clone`` to a collector: SAC's actor, from a dataset alone.

Behaviour cloning: the actor's mean is regressed on what the recorded policy did, as DAgger's is
(:mod:`booster_ray.rl.imitation`), but nobody is asked and nothing is played. An env step is here
one demonstrated transition that was learned from, so that budgets, schedules and cadences hold.
"""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.config import Config
from booster_ray.data.dataset import TRAIN, VALIDATION
from booster_ray.data.reading import Demonstrated, demonstrations
from booster_ray.rl import normalizer
from booster_ray.rl.demonstrations import Demonstrations
from booster_ray.rl.sac.host import check_digest
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.tree import from_tree, to_tree
from booster_ray.runtime.seeding import stream_generator, stream_seed
from booster_ray.store.checkpoint import Tree
from booster_ray.train.learner import make_learner, scheduled, task_shares

_log = logging.getLogger(__name__)

HELD_OUT = 16_384
"""Transitions of the validation part on which the loss is measured, at most."""


def make_collector(config: Config) -> CloneCollector:
    """The collector of a config of stage ``clone``.

    Raises:
        ConfigError: there is no dataset, a damaged one, or one that does not fit the config.
    """
    shown = demonstrations(config, TRAIN, rewards=False)
    held_out = demonstrations(config, VALIDATION, rewards=False, required=False)
    sac = make_learner(config, shown.observation.shape[1], shown.action.shape[1])
    if held_out is None:
        _log.warning("%s holds nothing out: no validation_loss", config.replay.demonstrations)
    return CloneCollector(config, sac, shown, held_out)


class CloneCollector:
    """Implements :class:`booster_ray.train.collector.Collector`; it collects nothing.

    Args:
        config: a resolved config.
        sac: whose actor learns.
        shown: what it learns from.
        held_out: what the loss is measured on besides.
    """

    def __init__(
        self, config: Config, sac: Sac, shown: Demonstrated, held_out: Demonstrated | None
    ) -> None:
        self._config, self._sac, self._digest = config, sac, shown.digest
        self._shape = config.sac.updates_per_step, config.sac.batch_size
        self.stride, self.action_size = self._shape[0] * self._shape[1], shown.action.shape[1]
        shares = task_shares(config)
        self._shown = _episodes(shown, shares)
        self._held_out: Batch | None = None
        if held_out is not None:
            self._held_out = _episodes(held_out, shares).evenly(HELD_OUT)
        self._lr = scheduled(config, config.imitation.lr)
        self._rng = stream_generator(config.seed, "collector")
        state = sac.init(stream_seed(config.seed, "learner"))
        self._state: SacState = state._replace(normalizer=normalizer.of(shown.observation))
        self._metrics: dict[str, jax.Array] = {}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return np.asarray(self._sac.act_mean(self._state, observation))

    def advance(self, env_steps: int) -> None:
        """``updates_per_step`` updates."""
        batches = self._shown.sample(self._shape, self._rng)
        lr = jnp.float32(self._lr(env_steps))
        self._state, self._metrics = self._sac.imitate(self._state, batches, lr)

    def metrics(self) -> dict[str, float]:
        """Of the newest updates, and ``validation_loss``, the mean squared error held out."""
        told = {name: float(value) for name, value in self._metrics.items()}
        if self._held_out is not None:
            error = self.act(self._held_out.observation) - self._held_out.action
            told["validation_loss"] = float(np.mean(error**2))
        return told

    def state(self) -> Tree:
        """See :class:`Collector`."""
        return {
            "learner": to_tree(self._state),
            "generator": self._rng.bit_generator.state,
            "demonstrations": self._digest,
        }

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`Collector`."""
        check_digest(tree, self._digest)
        self._state = from_tree(self._state, tree["learner"])
        self._rng.bit_generator.state = tree["generator"]

    def close(self) -> None:
        """Nothing to stop."""


def _episodes(found: Demonstrated, shares: list[float] | None) -> Demonstrations:
    """To sample from, with the policy's own actions."""
    return Demonstrations(
        found.observation,
        found.wanted,
        found.reward,
        found.steps,
        found.terminated,
        found.task,
        shares=shares,
    )
