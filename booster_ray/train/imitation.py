"""Learning from a demonstrator in place of SAC's updates."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from booster_ray.agents.sac.learner import Sac
from booster_ray.config import Config
from booster_ray.config.finetune import value_at
from booster_ray.demonstrators import actions, load_demonstrator
from booster_ray.train.collect import HostEngine
from booster_ray.train.report import Tree
from booster_ray.worlds.contract import World
from booster_ray.worlds.make import gains
from booster_ray.worlds.native import NativeWorld

GOLDEN = 0.5 * (5**0.5 - 1)
"""Its multiples fill [0, 1) evenly however many there are (Weyl)."""


class ImitationEngine(HostEngine):
    """DAgger (Ross, Gordon & Bagnell 2011) on worlds of the game.

    In some worlds the demonstrator acts, in the others the learner, with noise in both; what the
    demonstrator would do is asked for in all of them, and the actor's mean is regressed on it.
    Transitions in the replay have that action in place of the one that was played: nothing but
    the actor learns from them.

    Args:
        config: a resolved config with a demonstrator.
        sac: the learner's functions.
        world: its worlds, closed with this.

    Raises:
        ConfigError: the demonstrator cannot be made.
        ValueError: worlds that cannot tell what a demonstrator must see.
    """

    def __init__(self, config: Config, sac: Sac, world: World) -> None:
        if not isinstance(world, NativeWorld):
            raise ValueError(f"the world is a {type(world).__name__}; expected a NativeWorld")
        super().__init__(config, sac, world)
        self._soccer, self._gains = world, gains(config)
        self._demonstrator = load_demonstrator(config.imitation.demonstrator or "")
        worlds = np.arange(1, world.num_envs + 1)
        self._rank = worlds * GOLDEN % 1.0
        self._spread = 2.0 * (worlds - 0.5) / world.num_envs
        self._wanted = self._demonstrated()
        self._env_steps = 0

    def _value(self, name: str) -> float:
        config = self._config
        schedule = getattr(config.imitation, name)
        return value_at(schedule, self._env_steps, config.training.env_steps)

    def _demonstrated(self) -> np.ndarray:
        """What the demonstrator would do now, (n, 12) in [-1, 1]."""
        wanted = actions(self._demonstrator.targets, self._soccer, self._gains)
        return np.clip(wanted, -1.0, 1.0)

    def _act(self, env_steps: int) -> np.ndarray:
        self._env_steps = env_steps
        # Its samples are not played, but what it has seen is remembered.
        super()._act(env_steps)
        own = self._rank < self._value("own_share")
        mean = np.asarray(self._sac.act_mean(self.learner, self._observation))
        noise = self._rng.standard_normal(mean.shape) * self._spread[:, None]
        played = np.where(own[:, None], mean, self._wanted) + self._value("noise") * noise
        return np.clip(played, -1.0, 1.0)

    def _learn(self) -> None:
        sac = self._config.sac
        batches = self._replay.sample((sac.updates_per_step, sac.batch_size), self._rng)
        lr = jnp.float32(self._value("lr"))
        self.learner, self._metrics = self._sac.imitate(self.learner, batches, lr)

    def _collect(self, action: np.ndarray) -> None:
        wanted = self._wanted.astype(np.float32)
        self._store(wanted, self._world.step(action))
        self._wanted = self._demonstrated()

    def state(self) -> Tree:
        """See :class:`Engine`."""
        # A restored world knows its last frame no more, from which this came.
        return {**super().state(), "wanted": self._wanted.copy()}

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`Engine`."""
        super().restore(tree, env_steps)
        self._wanted = np.array(tree["wanted"])
