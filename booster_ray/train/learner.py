"""What binds a config to a learner: the game's symmetry, shares of tasks, schedules, the start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from booster_ray.config import Config
from booster_ray.config.finetune import Schedule, value_at
from booster_ray.rl.sac.learner import Sac
from booster_ray.rl.symmetry import Mirror
from booster_ray.soccer import observation, symmetry


def make_learner(config: Config, observation_size: int, action_size: int) -> Sac:
    """SAC's functions for a config, for worlds of these sizes."""
    mirror = None
    if config.world.is_soccer:
        mirror = Mirror(observation.image(config.observation.features), symmetry.ACTION)
    tasks = len(config.world.task_names)
    factor = scheduled(config, config.sac.lr_factor)
    return Sac(config.sac, observation_size, action_size, mirror, tasks, factor)


def learning_starts(config: Config) -> int:
    """Env steps before the first update: enough for a batch, whatever is configured."""
    return max(config.sac.learning_starts, config.sac.batch_size)


def task_shares(config: Config) -> list[float] | None:
    """Weight of each task in a batch, by its number; None where there is but one."""
    return list(config.sac.task_shares.model_dump().values()) if config.world.is_soccer else None


def scheduled(config: Config, schedule: Schedule) -> Callable[[int], float]:
    """What a schedule says after so many env steps of the config's budget."""
    return partial(value_at, schedule, budget=config.training.env_steps)
