"""What an expert would do in every world of a collector."""

from __future__ import annotations

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.contract import World
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains
from booster_ray.policy.experts import actions, load_demonstrator


class Expert:
    """The expert of a config's ``imitation.demonstrator``, in worlds of the game.

    Attributes:
        action: what it would do now, (n, 12) in [-1, 1]. A restored world does not know the frame
            from which this came: it belongs into a checkpoint.

    Args:
        config: a resolved config with an expert.
        world: the collector's.

    Raises:
        ConfigError: the expert cannot be made.
        ValueError: worlds that cannot tell what an expert must see.
    """

    action: np.ndarray

    def __init__(self, config: Config, world: World) -> None:
        if not isinstance(world, NativeWorld):
            raise ValueError(f"the world is a {type(world).__name__}; expected a NativeWorld")
        self._world, self._gains = world, gains(config)
        self._targets = load_demonstrator(config.imitation.demonstrator or "").targets

    def ask(self) -> None:
        """Renew :attr:`action`, after a step or a reset."""
        self.action = np.clip(actions(self._targets, self._world, self._gains), -1.0, 1.0)
