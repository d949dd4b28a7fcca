"""A trained policy, out of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.make import sizes
from booster_ray.evaluate.scores import Policy
from booster_ray.rl.tree import from_tree, to_tree
from booster_ray.runtime.seeding import stream_seed
from booster_ray.store import checkpoint
from booster_ray.train.learner import make_learner

if TYPE_CHECKING:
    from booster_ray.rl.torch_actor import TorchActor


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
        from booster_ray.policy.actor_files import torch_policy
        from booster_ray.policy.convert import to_torch

        actor = first_actor(config) if untrained else to_torch(config, tree["learner"])
        return config, torch_policy(actor)
    learner = make_learner(config, *sizes(config))
    state = learner.init(stream_seed(config.seed, "learner"))
    if not untrained:
        state = from_tree(state, tree["learner"])

    def policy(observation: np.ndarray) -> np.ndarray:
        return np.asarray(learner.act_mean(state, observation))

    return config, policy


def first_actor(config: Config) -> TorchActor:
    """The policy that a run of this config began with, in torch; raises as :func:`load_policy`."""
    if config.stage == "finetune":
        from booster_ray.train.finetune_start import begin

        return begin(config).actor
    from booster_ray.policy.convert import to_torch

    learner = make_learner(config, *sizes(config))
    return to_torch(config, to_tree(learner.init(stream_seed(config.seed, "learner"))))
