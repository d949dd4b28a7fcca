"""Small policies and checkpoints of them, for tests of what plays and packs policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from booster_ray.config import Config
from booster_ray.envs.make import sizes
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.rl.tree import to_tree
from booster_ray.soccer import game, observation
from booster_ray.store import checkpoint
from booster_ray.train.learner import make_learner


def actor(names: tuple[str, ...] = (), seed: int = 0, reach: float = 30.0) -> TorchActor:
    """A random policy of some vigour; an untrained one hardly moves."""
    made = TorchActor(observation.size(names), game.ACTION_SIZE, [16], clip=10.0)
    made.mlp.initialize(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        made.mlp.head.weight *= reach
    return made.eval()


def tiny_config(names: tuple[str, ...] = (), **sac: Any) -> Config:
    """A config of narrow networks."""
    small = {"actor_hidden": [16], "critic_hidden": [16], **sac}
    return Config.model_validate({"sac": small, "observation": {"features": list(names)}})


_learners: dict[Any, Sac] = {}


def untrained(config: Config) -> SacState:
    """A learner's first state. JAX traces it once for all configs whose networks are alike."""
    usual = {"activation": "silu", "normalize_observations": True}  # these leave it alone
    sac = config.sac.model_copy(update=usual)
    key = sac, sizes(config)
    if key not in _learners:
        _learners[key] = make_learner(config.model_copy(update={"sac": sac}), *sizes(config))
    return _learners[key].init(config.seed)


def save_checkpoint(path: Path, config: Config, change: dict[str, Any] | None = None) -> Path:
    """A checkpoint as a run's best is kept, with a normalizer that has seen something.

    ``change`` replaces leaves of the learner, by their names.
    """
    tree = to_tree(untrained(config))
    rng = np.random.default_rng(1)
    size = observation.size(config.observation.features)
    tree |= {
        "normalizer.seen": np.float32(1000),
        "normalizer.mean": rng.normal(0, 0.3, size).astype(np.float32),
        "normalizer.square": (1000 * rng.uniform(0.2, 2, size)).astype(np.float32),
    }
    head = f"actor.params.Dense_{len(config.sac.actor_hidden)}.kernel"
    tree[head] = tree[head] * 10
    metadata = {"config": config.to_dict(), "digest": config.digest(), "env_steps": 1}
    checkpoint.save(path, {"learner": tree | (change or {})}, metadata)
    return path


def falling(observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """A player by import path: no torques at all."""
    return np.zeros((len(observation), game.ACTION_SIZE))
