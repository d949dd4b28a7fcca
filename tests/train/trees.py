"""Comparing reports and whole training states."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.store.checkpoint import Log, Tree
from booster_ray.store.checkpoint.leaves import flatten
from booster_ray.train.report import Report

CLOCKS = {
    "compile_seconds", "env_steps_per_second", "evaluation_seconds", "updates_per_second",
    "wall_seconds",
}  # fmt: skip
"""Metrics that hang on the machine's speed."""


def numbers(report: Report) -> dict[str, float]:
    """A report's metrics that are the same in every run."""
    return {k: v for k, v in report.metrics.items() if k not in CLOCKS}


def leaves(tree: Tree) -> dict[str, Any]:
    """Everything in a state, arrays and logs as their type and bytes."""
    found = {
        name: np.asarray(leaf) if isinstance(leaf, Log) else leaf for name, leaf in flatten(tree)
    }
    return {
        name: (leaf.dtype.str, leaf.shape, leaf.tobytes()) if isinstance(leaf, np.ndarray) else leaf
        for name, leaf in found.items()
    }


def differing(first: Tree, second: Tree) -> list[str]:
    """Paths of the leaves that are not bit for bit the same."""
    one, other = leaves(first), leaves(second)
    return sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
