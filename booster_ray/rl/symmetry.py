"""A mirror symmetry of a task, as a learner sees it: signed permutations of its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any

Image = Sequence[tuple[int, int]]
"""What n numbers become in the mirror, a signed permutation that is its own inverse: of the i-th
pair (place, sign), ``mirrored[i] = sign * x[place]``; signs are ±1."""


class Mirror(NamedTuple):
    """Images of observations and of actions.

    If playing ``action`` at ``observation`` pays a reward and leads somewhere, then the mirrored
    action at the mirrored observation pays the same and leads to the mirrored place.
    """

    observation: Image
    """Of obs numbers."""
    action: Image
    """Of act numbers."""


def mirrored(image: Image, x: Array) -> Array:
    """Shape: (..., n) → (..., n)."""
    order, sign = zip(*image, strict=True)
    return x[..., np.array(order)] * np.array(sign, np.float32)


def check(mirror: Mirror, observation_size: int, action_size: int) -> None:
    """Refuse what is no mirror of these sizes.

    Raises:
        ValueError: a wrong length, or mirroring twice does not give back what was there.
    """
    sizes = observation_size, action_size
    for name, image, size in zip(mirror._fields, mirror, sizes, strict=True):
        if len(image) != size:
            raise ValueError(f"mirror of {name}s has {len(image)} places; expected {size}")
        numbers = np.arange(1.0, size + 1.0)
        inside = all(place in range(size) for place, _ in image)
        if not inside or not np.array_equal(mirrored(image, mirrored(image, numbers)), numbers):
            raise ValueError(f"mirror of {name}s is not its own inverse")
