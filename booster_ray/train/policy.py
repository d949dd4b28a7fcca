"""A trained policy, out of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    if config.stage == "finetune":
        return config, _finetuned(config, None if untrained else tree["learner"])
    learner = make_learner(config, *sizes(config))
    state = learner.init(config.seed)
    if not untrained:
        state = from_tree(state, tree["learner"])

    def policy(observation: np.ndarray) -> np.ndarray:
        return np.asarray(learner.act_mean(state, observation))

    return config, policy


def _finetuned(config: Config, learner: dict[str, Any] | None) -> Policy:
    """The torch actor of a finetuning run, or the one that it began with."""
    from booster_ray.agents.actor_files import torch_policy
    from booster_ray.agents.convert import to_torch
    from booster_ray.train.finetune_start import begin

    return torch_policy(begin(config).actor if learner is None else to_torch(config, learner))
