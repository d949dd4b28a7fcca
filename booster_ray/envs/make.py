"""The environments of a config, by the registry of kinds (:mod:`booster_ray.config.kinds`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from booster_ray.config import Config, ConfigError
from booster_ray.config.errors import blame
from booster_ray.config.kinds import ADDED, class_of, kind_of
from booster_ray.soccer import game, observation
from booster_ray.soccer.entry_points import Added

if TYPE_CHECKING:
    from booster_ray.envs.contract import World
    from booster_ray.envs.device import Dynamics


def make_world(
    config: Config, threads: int, num_envs: int | None = None, max_steps: int | None = None
) -> World:
    """The training environments of a config, stepped from the host.

    Args:
        config: a resolved config.
        threads: physics threads, where the simulator has some.
        num_envs: environments in the batch; None: as configured.
        max_steps: control steps that an episode may last where the environment itself sets no
            limit (gym); None: any number.

    Raises:
        ConfigError: the environment cannot be made, or not be served by a Gaussian policy.
    """
    if config.world.on_device:
        from booster_ray.envs.device import DeviceWorld

        return DeviceWorld(make_dynamics(config, num_envs))
    n = num_envs or config.world.num_envs
    made: World = _env(config).from_config(config, n, threads=threads, max_steps=max_steps)
    return made


def make_dynamics(config: Config, num_envs: int | None = None) -> Dynamics[Any]:
    """The training environments of a config that step on the device.

    Raises:
        ConfigError: what the config asks for is not installed here.
        ValueError: the config's environments step on the host.
    """
    if not config.world.on_device:
        raise ValueError(f"environments of kind {config.world.kind} do not step on the device")
    made: Dynamics[Any] = _env(config).from_config(config, num_envs or config.world.num_envs)
    return made


def _env(config: Config) -> Any:
    """The class of a config's kind; its simulator loads here."""
    module, _, name = class_of(config.world.kind).partition(":")
    return getattr(import_module(module), name)


def check_world(config: Config) -> tuple[int, int] | None:
    """Refuse an environment of other people's that cannot be played, before anything is begun.

    It is made, reset and stepped once. JAX is not loaded: what MJX and Brax lack shows when they
    are made.

    Returns:
        Numbers in an observation and in an action; None of other worlds.

    Raises:
        ConfigError: see :func:`make_world`; or its first reset or step raises, or gives what is no
            observation or reward.
    """
    family, _, _ = config.world.kind.partition(":")
    if family in ADDED:
        return _check_added(config, ADDED[family])
    if not kind_of(config.world.kind)[0].foreign:
        return None
    from booster_ray.envs.contract import WorldError

    world = None
    try:
        world = make_world(config, threads=1, num_envs=1)
        world.reset(config.seed)
        world.step(np.zeros((1, world.action_size), np.float32))
        return world.observation_size, world.action_size
    except WorldError as error:
        raise ConfigError("world.kind", str(error)) from None
    finally:
        if world is not None:
            world.close()


def _check_added(config: Config, source: Added) -> tuple[int, int] | None:
    try:
        # Its class is imported in any case; what steps on the device would load JAX.
        env = _env(config)
        if config.world.on_device:
            return None
        least = len(config.tasks) if config.world.is_soccer else 1
        world: World = env.from_config(config, least, threads=1, max_steps=None)
        world.reset(config.seed)
        world.step(np.zeros((least, world.action_size), np.float32))
        found = world.observation_size, world.action_size
        world.close()
    except Exception as error:  # the package is not ours
        text = f"{config.world.kind} of package {source.package} cannot be played: {blame(error)}"
        raise ConfigError("world.kind", text) from None
    return found


def sizes(config: Config) -> tuple[int, int]:
    """Numbers in an observation and in an action, without building the whole batch.

    Raises:
        ConfigError: see :func:`make_world`.
    """
    if config.world.is_soccer:
        return observation.size(config.observation.features), game.ACTION_SIZE
    world = make_world(config, threads=1, num_envs=1)
    try:
        return world.observation_size, world.action_size
    finally:
        world.close()
