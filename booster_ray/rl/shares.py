"""How a batch is split among tasks in stated proportions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def task_weights(tasks: Sequence[int] | np.ndarray, shares: Sequence[float] | None) -> np.ndarray:
    """Weights of the tasks that are played, float64 (len(tasks),), of sum 1.

    Args:
        tasks: distinct task numbers.
        shares: weight of every task, indexed by its number; None: equal ones.

    Raises:
        ValueError: a task without a weight, or a weight that is not a finite number above 0.
    """
    if shares is None:
        return np.full(len(tasks), 1.0 / len(tasks))
    if max(tasks) >= len(shares):
        raise ValueError(
            f"{len(shares)} task shares; expected one for each task up to {max(tasks)}"
        )
    weights = np.asarray(shares, np.float64)[np.asarray(tasks)]
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"task shares are {list(shares)}; expected finite numbers above 0")
    return np.asarray(weights / weights.sum())


def apportion(size: int, weights: np.ndarray) -> list[int]:
    """Whole numbers of sum ``size`` in the proportions of ``weights``, by largest remainder.

    Each is within 1 of its exact share (Hamilton's method); equal remainders favour the first.
    """
    exact = size * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    # A share that is whole but for rounding must not count as one short.
    behind = np.argsort(np.round(counts - exact, 9), kind="stable")
    counts[behind[: size - counts.sum()]] += 1
    return [int(count) for count in counts]
