"""The settings of a run: schema, YAML files, presets, overrides, search spaces, errors.

Nothing heavy is imported here, so that a bad config is refused at once and the runtime's
environment is set before JAX loads.
"""

from booster_ray.config.errors import ConfigError
from booster_ray.config.load import PRESETS, SHIPPED, Sweep, load
from booster_ray.config.schema import (
    SAC,
    Checkpoint,
    Config,
    Control,
    Evaluation,
    Randomization,
    Rewards,
    Runtime,
    Trainer,
    Training,
    Tune,
    World,
)
from booster_ray.config.space import Choice, Distribution, FloatRange, IntRange

__all__ = [
    "PRESETS",
    "SAC",
    "SHIPPED",
    "Checkpoint",
    "Choice",
    "Config",
    "ConfigError",
    "Control",
    "Distribution",
    "Evaluation",
    "FloatRange",
    "IntRange",
    "Randomization",
    "Rewards",
    "Runtime",
    "Sweep",
    "Trainer",
    "Training",
    "Tune",
    "World",
    "load",
]
