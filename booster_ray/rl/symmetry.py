"""A mirror symmetry of a task, as a learner sees it: signed permutations of its arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any


class Mirror(NamedTuple):
    """What observations and actions become in the mirror: ``mirrored[i] = sign[i] * x[order[i]]``.

    If playing ``action`` at ``observation`` pays a reward and leads somewhere, then the mirrored
    action at the mirrored observation pays the same and leads to the mirrored place.
    """

    observation_order: np.ndarray
    """int (obs,)."""
    observation_sign: np.ndarray
    """float32 (obs,): ±1."""
    action_order: np.ndarray
    """int (act,)."""
    action_sign: np.ndarray
    """float32 (act,): ±1."""


def mirror_observation(mirror: Mirror, observation: Array) -> Array:
    """Shape: (..., obs) → (..., obs)."""
    return observation[..., mirror.observation_order] * mirror.observation_sign


def mirror_action(mirror: Mirror, action: Array) -> Array:
    """Shape: (..., act) → (..., act)."""
    return action[..., mirror.action_order] * mirror.action_sign


def check(mirror: Mirror, observation_size: int, action_size: int) -> None:
    """Refuse what is no mirror of these sizes.

    Raises:
        ValueError: a wrong length, or mirroring twice does not give back what was there.
    """
    for name, order, sign, size in (
        ("observation", mirror.observation_order, mirror.observation_sign, observation_size),
        ("action", mirror.action_order, mirror.action_sign, action_size),
    ):
        if np.shape(order) != (size,) or np.shape(sign) != (size,):
            raise ValueError(
                f"mirror of {name}s has {np.shape(order)} places and {np.shape(sign)} signs; "
                f"expected {size} of each"
            )
        twice = np.array_equal(order[order], np.arange(size))
        if not twice or not np.array_equal(sign * sign[order], np.ones(size)):
            raise ValueError(f"mirror of {name}s is not its own inverse")
