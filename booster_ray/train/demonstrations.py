"""What a demonstrator would do in every world, and in which worlds it acts."""

from __future__ import annotations

import numpy as np

from booster_ray.config import Config
from booster_ray.config.finetune import value_at
from booster_ray.envs.contract import World
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains
from booster_ray.policy.experts import actions, load_demonstrator

GOLDEN = 0.5 * (5**0.5 - 1)
"""Its multiples fill [0, 1) evenly however many there are (Weyl)."""


class Demonstrations:
    """Of one demonstrator in one engine's worlds.

    Attributes:
        wanted: what it would do now, (n, 12) in [-1, 1]. A restored world knows its last frame no
            more, from which this came: it belongs into a checkpoint.

    Args:
        config: a resolved config with a demonstrator.
        world: the engine's, reset.

    Raises:
        ConfigError: the demonstrator cannot be made.
        ValueError: worlds that cannot tell what a demonstrator must see.
    """

    def __init__(self, config: Config, world: World) -> None:
        if not isinstance(world, NativeWorld):
            raise ValueError(f"the world is a {type(world).__name__}; expected a NativeWorld")
        self._config, self._world, self._gains = config, world, gains(config)
        self._demonstrator = load_demonstrator(config.imitation.demonstrator or "")
        self._rank = np.arange(1, world.num_envs + 1) * GOLDEN % 1.0
        self.ask()

    def ask(self) -> None:
        """Renew :attr:`wanted`, after a step or a reset."""
        wanted = actions(self._demonstrator.targets, self._world, self._gains)
        self.wanted = np.clip(wanted, -1.0, 1.0)

    def played(self, own: np.ndarray, env_steps: int) -> np.ndarray:
        """The learner's actions (n, 12) in its share of the worlds, the demonstrator's elsewhere.

        Shares are ``imitation.own_share`` after ``env_steps``.
        """
        schedule, budget = self._config.imitation.own_share, self._config.training.env_steps
        mine = self._rank < value_at(schedule, env_steps, budget)
        return np.where(mine[:, None], own, self.wanted)
