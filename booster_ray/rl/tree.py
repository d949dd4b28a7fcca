"""The state of a learner in JAX as a flat tree of arrays, for a checkpoint, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.store.checkpoint import Tree


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
        # Copied by NumPy: JAX would compile a copy for each shape.
        filled.append(jnp.asarray(np.array(saved)))
    return jax.tree.unflatten(structure, filled)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
