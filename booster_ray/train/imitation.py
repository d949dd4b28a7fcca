"""Learning from a demonstrator in place of SAC's updates."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from booster_ray.config import Config
from booster_ray.config.finetune import value_at
from booster_ray.envs.contract import World
from booster_ray.rl.sac.learner import Sac
from booster_ray.train.collect import HostEngine
from booster_ray.train.demonstrations import Demonstrations
from booster_ray.train.report import Tree


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
        super().__init__(config, sac, world)
        self._demonstrations = Demonstrations(config, world)
        self._spread = 2.0 * (np.arange(1, world.num_envs + 1) - 0.5) / world.num_envs

    def _value(self, name: str) -> float:
        config = self._config
        schedule = getattr(config.imitation, name)
        return value_at(schedule, self._env_steps, config.training.env_steps)

    def _act(self, env_steps: int) -> np.ndarray:
        # Its samples are not played, but what it has seen is remembered.
        super()._act(env_steps)
        mean = np.asarray(self._sac.act_mean(self.learner, self._observation))
        noise = self._rng.standard_normal(mean.shape) * self._spread[:, None]
        played = self._demonstrations.played(mean, env_steps)
        return np.clip(played + self._value("noise") * noise, -1.0, 1.0)

    def _learn(self) -> None:
        sac = self._config.sac
        batches = self._replay.sample((sac.updates_per_step, sac.batch_size), self._rng)
        lr = jnp.float32(self._value("lr"))
        self.learner, self._metrics = self._sac.imitate(self.learner, batches, lr)

    def _collect(self, action: np.ndarray) -> None:
        wanted = self._demonstrations.wanted.astype(np.float32)
        self._store(wanted, self._world.step(action))
        self._demonstrations.ask()

    def state(self) -> Tree:
        """See :class:`Engine`."""
        return {**super().state(), "wanted": self._demonstrations.wanted.copy()}

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`Engine`."""
        super().restore(tree, env_steps)
        self._demonstrations.wanted = np.array(tree["wanted"])
