"""The learner of a config, and its state in a checkpoint."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.config import Config
from booster_ray.rl.sac.learner import Sac
from booster_ray.rl.symmetry import Mirror
from booster_ray.soccer import symmetry
from booster_ray.train.report import Tree


def make_learner(config: Config, observation_size: int, action_size: int) -> Sac:
    """The learner of a config, for worlds of these sizes."""
    mirror = None
    if config.world.is_soccer:
        seen, done = symmetry.observation(config.observation.features), symmetry.action()
        mirror = Mirror(seen.order, seen.sign, done.order, done.sign)
    return Sac(config.sac, observation_size, action_size, mirror)


def learning_starts(config: Config) -> int:
    """Env steps before the first update: enough for a batch, whatever is configured."""
    return max(config.sac.learning_starts, config.sac.batch_size)


def task_shares(config: Config) -> list[float] | None:
    """Weight of each task in a batch, by its number; None where there is but one."""
    return list(config.sac.task_shares.model_dump().values()) if config.world.is_soccer else None


def to_tree(state: Any) -> Tree:
    """A pytree as a flat dict of NumPy arrays, keyed by path."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def from_tree(template: Any, tree: Tree) -> Any:
    """Fill the pytree ``template`` with the leaves that :func:`to_tree` saved.

    Raises:
        ValueError: a leaf is missing or has another shape, named with both.
    """
    leaves, structure = jax.tree.flatten_with_path(template)
    filled = []
    for path, leaf in leaves:
        name = _name(path)
        saved = tree.get(name)
        if saved is None or np.shape(saved) != np.shape(leaf):
            found = "missing" if saved is None else f"of shape {np.shape(saved)}"
            raise ValueError(f"checkpoint leaf {name} is {found}; expected {np.shape(leaf)}")
        filled.append(jnp.array(saved))
    return jax.tree.unflatten(structure, filled)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
