"""What plays official episodes, and what it may answer."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.soccer import game


class Player(Protocol):
    """What plays one batch of episodes of one task, from their begin."""

    def __call__(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Official observations (n, D) and infos (n, …) to torques (n, 12) N·m, every 2 ms."""
        ...


class BadAction(ConfigError):
    """A player gave something that is no action; one line says what."""


def checked(torque: Any, alive: np.ndarray) -> np.ndarray:
    """The action (n, 12) if it is one; that of worlds that ended may be anything.

    Raises:
        BadAction: another shape, no numbers, or not finite.
    """
    array = shaped(np.asarray(torque), len(alive), "torques")
    if not np.isfinite(array[alive]).all():
        raise BadAction("the policy's torques are not finite")
    return np.where(alive[:, None], array, array.dtype.type(0))


def shaped(array: np.ndarray, n: int, what: str) -> np.ndarray:
    """Numbers (n, 12), as they are; ``what`` they are is for the error.

    Raises:
        BadAction: another shape, or no numbers.
    """
    expected = (n, game.ACTION_SIZE)
    if array.shape == expected and array.dtype.kind in "fiu":
        return array
    told = f"{array.dtype}{list(array.shape)}"
    if array.dtype.kind == "O" and array.ndim == 0:
        told = "None" if array.item() is None else f"a {type(array.item()).__name__}"
    raise BadAction(f"the policy gives {told}, expected {what} {list(expected)}")
