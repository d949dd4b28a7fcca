"""What a world is, and nothing else is needed to write a new one.

A world is a batch of ``num_envs`` independent episodes that step together. Every array leads
with that dimension. Episodes that end are reset within the same step: ``observation`` is then
the new episode's first, while ``final_observation`` keeps the true last one, which is what a
value target may bootstrap from when the episode was truncated rather than terminated.
Randomness comes only from the seed given to ``reset``; ``state`` and ``restore`` carry it, with
all else that changes, so that a restored world goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from booster_ray.soccer import game, randomization

MODES = ("pd", "torque", "newton_metres")
"""What an action may be: joint offsets under PD, fractions of the torque limits, torques."""


def check_arguments(tasks: Sequence[str], mode: str, level: int) -> None:
    """Refuse what no world of the game can play.

    Raises:
        ValueError: no task or an unknown one, or an unknown control mode or randomization level.
    """
    unknown = [task for task in tasks if task not in game.TASKS]
    if isinstance(tasks, str) or unknown or not tasks:
        raise ValueError(f"unknown task {unknown or tasks}; expected some of {list(game.TASKS)}")
    if mode not in MODES:
        raise ValueError(
            f"unknown control mode {mode!r}; expected 'pd', 'torque' or 'newton_metres'"
        )
    if level not in range(len(randomization.LEVELS)):
        raise ValueError(f"unknown randomization level {level!r}; expected 0-3")


class StepResult(NamedTuple):
    """Outcome of one control step."""

    observation: np.ndarray
    """float32 (num_envs, observation_size): what the next action answers."""
    final_observation: np.ndarray
    """float32 (num_envs, observation_size): before any reset."""
    reward: np.ndarray
    """float32 (num_envs,): weighted dense terms."""
    terminated: np.ndarray
    """bool (num_envs,): the game ended the episode; its value beyond is zero."""
    truncated: np.ndarray
    """bool (num_envs,): time ended it; its value beyond is not zero."""
    episodes: list[dict[str, float]]
    """One record for each episode that ended: env, task, return, seconds, score, fallen,
    success, touched."""


class World(Protocol):
    """A batch of auto-resetting episodes."""

    num_envs: int
    observation_size: int
    action_size: int
    task: np.ndarray
    """int32 (num_envs,): index of each world's task."""

    def reset(self, seed: int) -> np.ndarray:
        """Start every episode anew; float32 (num_envs, observation_size)."""
        ...

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step. ``action``: (num_envs, action_size) in [-1, 1].

        Raises:
            ValueError: wrong shape, or an action that is not finite.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything that changes, as a tree of arrays and JSON scalars."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state`` was taken; raises ValueError when it does not fit."""
        ...

    def close(self) -> None:
        """Free threads and memory."""
        ...
