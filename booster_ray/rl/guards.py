"""What a training loop may ask of a learner's metrics: has this gone wrong?

Pure functions of plain numbers; a loop calls them when it reports and decides what follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

EXPLODED = 1e6
"""A loss or gradient norm beyond this has exploded: values of a few hundred, as our rewards and
γ 0.97 make them, give losses below 1e5 even where every target is wrong by all of it."""

COLLAPSE_NATS = 2.0
"""Entropy this far below its target, in nats per action dimension, counts as low: the policy's
deviations are then a seventh (e^-2) of what the target asks for."""

COLLAPSE_REPORTS = 5
"""Reports in a row with low entropy that make a collapse. The temperature answers a fall of the
entropy within some thousands of updates; what it has not mended by then it will not mend."""

WATCHED = ("critic_loss", "actor_loss", "critic_grad_norm", "actor_grad_norm", "q", "q_max")
"""Metrics that :func:`divergence` looks at, where they are there."""


EDGE_MASS = 0.9
"""Share of the targets' mass on the two edge atoms of a C51 critic from which it learns nothing but
the edge: returns do not fit its support."""


def divergence(metrics: Mapping[str, float], limit: float = EXPLODED) -> str | None:
    """What is not finite or beyond ``±limit`` among the watched metrics, or does not fit a critic.

    None: nothing.
    """
    for name in WATCHED:
        value = float(metrics.get(name, 0.0))
        if not math.isfinite(value):
            return f"{name} is {value}"
        if abs(value) > limit:
            return f"{name} is {value:.3g}, beyond {limit:.3g}"
    if (mass := float(metrics.get("edge_mass", 0.0))) > EDGE_MASS:
        return f"edge_mass is {mass:.2f} (returns do not fit sac.v_min to sac.v_max)"
    return None


def check_action(action: np.ndarray) -> np.ndarray:
    """The action; reports are rare, and parameters that a loss has spoilt show here first.

    Raises:
        FloatingPointError: some number of it is not finite.
    """
    if not np.isfinite(action).all():
        raise FloatingPointError("the policy's action is not finite")
    return action


class EntropyWatch(NamedTuple):
    """How long the entropy has been low; plain numbers, for the checkpoint."""

    reports: int = 0
    """Reports in a row."""


def watch_entropy(
    watch: EntropyWatch,
    metrics: Mapping[str, float],
    target_entropy: float,
    action_size: int,
) -> EntropyWatch:
    """Take one report into account; one without an entropy changes nothing.

    Args:
        watch: what the reports before left.
        metrics: ``entropy`` in nats, over all action dimensions.
        target_entropy: nats, likewise.
        action_size: action dimensions.
    """
    if "entropy" not in metrics:
        return watch
    low = float(metrics["entropy"]) < target_entropy - COLLAPSE_NATS * action_size
    return EntropyWatch(watch.reports + 1 if low else 0)


def collapsed(watch: EntropyWatch) -> bool:
    """Whether the policy has stopped exploring: low entropy for ``COLLAPSE_REPORTS`` reports."""
    return watch.reports >= COLLAPSE_REPORTS
