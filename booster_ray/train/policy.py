"""A trained policy, out of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from booster_ray import checkpoint
from booster_ray.config import Config
from booster_ray.train.evaluation import Policy
from booster_ray.train.learner import from_tree, make_learner
from booster_ray.worlds.make import sizes


def load_policy(path: Path, *, untrained: bool = False) -> tuple[Config, Policy]:
    """The greedy policy of a checkpoint and its config; ``untrained``: the run's first policy.

    Raises:
        checkpoint.CheckpointError: no checkpoint there, or a damaged one.
        ConfigError: its environment is not installed here.
        ValueError: the checkpoint's networks do not fit its config.
    """
    tree, metadata = checkpoint.load(path, keys=["learner"])
    config = Config.model_validate(metadata["config"])
    learner = make_learner(config, *sizes(config))
    state = learner.init(config.seed)
    if not untrained:
        state = from_tree(state, tree["learner"])

    def policy(observation: np.ndarray) -> np.ndarray:
        return np.asarray(learner.act_mean(state, observation))

    return config, policy
