"""The worlds of a config: the one place that knows which setting goes to which simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from booster_ray.config import Config, ConfigError
from booster_ray.config.curriculum import scheduled_terms
from booster_ray.soccer import features, game
from booster_ray.soccer.control import Gains, leg_gains

if TYPE_CHECKING:
    from booster_ray.envs.contract import World
    from booster_ray.envs.device import Dynamics

# Each simulator is imported by the config that wants it.


def gains(config: Config) -> Gains:
    """The PD gains of a config, both legs alike. Shapes: (12,)."""
    control = config.control
    return leg_gains(
        control.default_pose, control.action_scale, control.kp, control.kd, control.action_bounds
    )


def soccer_options(config: Config) -> dict[str, Any]:
    """What every simulator of the game is told alike, in training and in evaluation."""
    return {
        "mode": config.control.mode,
        "decimation": config.control.decimation,
        "features": config.observation.features,
        "gait_frequency": config.observation.gait_frequency,
    }


def _training_options(config: Config) -> dict[str, Any]:
    return {
        "weights": config.rewards.model_dump(),
        "level": config.randomization.level,
        "episode_steps": round(config.world.episode_seconds / game.TIMESTEP),
    }


def make_world(
    config: Config, threads: int, num_envs: int | None = None, max_steps: int | None = None
) -> World:
    """The training world of a config, stepped from the host.

    Args:
        config: a resolved config.
        threads: physics threads, where the simulator has some.
        num_envs: worlds in the batch; None: as configured.
        max_steps: control steps that an episode may last where the environment itself sets no
            limit (gym); None: any number.

    Raises:
        ConfigError: the environment cannot be made, or not be served by a Gaussian policy.
        ValueError: the config's MJX worlds, which only :func:`make_dynamics` serves.
    """
    n = num_envs or config.world.num_envs
    family, _, name = config.world.kind.partition(":")
    if family == "gym":
        from booster_ray.envs.gym_world import GymWorld

        try:
            return GymWorld(name, n, max_steps)
        except ValueError as error:
            raise ConfigError("world.kind", str(error)) from None
    if family == "brax":
        from booster_ray.envs.device import DeviceWorld

        return DeviceWorld(make_dynamics(config, n))
    if family == "official":
        from booster_ray.envs.official_world import OfficialWorld

        options = soccer_options(config) | _training_options(config)
        return OfficialWorld(config.tasks, n, gains(config), **options)
    if family != "native":
        raise ValueError(f"worlds of kind {family} are not stepped from the host")
    from booster_ray.envs.native import NativeWorld

    options = soccer_options(config) | _training_options(config)
    return NativeWorld(config.tasks, n, gains(config), threads=threads, **options)


def make_dynamics(config: Config, num_envs: int | None = None) -> Dynamics[Any]:
    """The training worlds of a config that step on the device.

    Raises:
        ConfigError: what the config asks for is not installed here.
        ValueError: the config's worlds step on the host.
    """
    n = num_envs or config.world.num_envs
    family, _, name = config.world.kind.partition(":")
    if family == "brax":
        from booster_ray.envs.brax_world import BraxDynamics

        return BraxDynamics(name, n)
    if family != "mjx":
        raise ValueError(f"worlds of kind {family} do not step on the device")
    from booster_ray.envs.mjx_world import MjxDynamics

    options = soccer_options(config) | _training_options(config)
    options["scaled_terms"] = scheduled_terms(config)
    try:
        return MjxDynamics(config.tasks, n, gains(config), impl=config.world.impl, **options)
    except ValueError as error:
        raise ConfigError("world.impl", str(error)) from None


def check_world(config: Config) -> tuple[int, int] | None:
    """Refuse an environment of gymnasium's that cannot be played, before anything is begun.

    It is made, reset and stepped once. JAX is not loaded: what MJX and Brax lack shows when they
    are made.

    Returns:
        Numbers in an observation and in an action; None of other worlds.

    Raises:
        ConfigError: see :func:`make_world`; or its first reset or step raises, or gives what is no
            observation or reward.
    """
    if not config.world.kind.startswith("gym:"):
        return None
    from booster_ray.envs.contract import WorldError

    world = make_world(config, threads=1, num_envs=1)
    try:
        world.reset(config.seed)
        world.step(np.zeros((1, world.action_size), np.float32))
        return world.observation_size, world.action_size
    except WorldError as error:
        raise ConfigError("world.kind", str(error)) from None
    finally:
        world.close()


def sizes(config: Config) -> tuple[int, int]:
    """Numbers in an observation and in an action, without building the whole batch.

    Raises:
        ConfigError: see :func:`make_world`.
    """
    if config.world.is_soccer:
        return features.size(config.observation.features), game.ACTION_SIZE
    world = make_world(config, threads=1, num_envs=1)
    try:
        return world.observation_size, world.action_size
    finally:
        world.close()
