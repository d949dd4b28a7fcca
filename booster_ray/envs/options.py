"""What a config says to the simulators of the game: which setting is which argument."""

from __future__ import annotations

from typing import Any

from booster_ray.config import Config
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains, leg_gains


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


def reward_options(config: Config) -> dict[str, Any]:
    """Reward weights, and the seconds by which those of dense terms are multiplied."""
    per_second = config.training.reward_weights == "per_second"
    step = config.control.decimation * game.TIMESTEP
    return {"weights": config.rewards.model_dump(), "reward_seconds": step if per_second else 1.0}


def training_options(config: Config) -> dict[str, Any]:
    """What every simulator of the game is told in training: :func:`soccer_options` and more."""
    limit, paid = config.world.time_limit, config.rewards.official != 0
    return {
        **soccer_options(config),
        **reward_options(config),
        "limit_terminates": limit == "terminates" or (limit == "auto" and paid),
        "near_ball": config.world.near_ball,
        "level": config.randomization.level,
        "episode_steps": round(config.world.episode_seconds / game.TIMESTEP),
    }
