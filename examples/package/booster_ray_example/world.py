"""A point in a plane that is pushed, and is paid for being near the middle."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.contract import StepResult

SECONDS, STEPS = 0.1, 50
"""Of a control step; control steps of an episode."""


class PushedPoint:
    """Keeps :class:`booster_ray.envs.contract.World`. An observation is place (2) and velocity (2).

    Args:
        num_envs: points, each an episode of its own.
    """

    observation_size, action_size = 4, 2

    @classmethod
    def from_config(cls, config: Config, num_envs: int, **_: Any) -> PushedPoint:
        """The worlds of a config."""
        return cls(num_envs)

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.task = num_envs, np.zeros(num_envs, np.int32)
        self._rng = np.random.default_rng(0)
        self._points = np.zeros((num_envs, 4), np.float32)
        self._steps, self._returns = np.zeros(num_envs, np.int64), np.zeros(num_envs)

    def reset(self, seed: int) -> np.ndarray:
        """Start every episode anew; float32 (num_envs, 4)."""
        self._rng = np.random.default_rng(seed)
        self._begin(np.ones(self.num_envs, bool))
        return self._points.copy()

    def _begin(self, which: np.ndarray) -> None:
        self._points[which] = self._rng.uniform(-1.0, 1.0, (which.sum(), 4))
        self._steps[which], self._returns[which] = 0, 0.0

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; ``action`` (num_envs, 2) is a force."""
        if np.shape(action) != (self.num_envs, 2) or not np.isfinite(action).all():
            raise ValueError(f"expected finite actions of shape {(self.num_envs, 2)}")
        self._points[:, 2:] += SECONDS * (action - 0.5 * self._points[:, 2:])
        self._points[:, :2] += SECONDS * self._points[:, 2:]
        reward = np.exp(-np.square(self._points[:, :2]).sum(axis=1))
        self._steps += 1
        self._returns += reward
        final, over = self._points.copy(), self._steps >= STEPS
        seconds = STEPS * SECONDS
        episodes = [
            {"env": float(i), "task": 0.0, "return": r, "score": r, "seconds": seconds}
            for i, r in enumerate(self._returns.tolist())
            if over[i]
        ]
        self._begin(over)
        never = np.zeros(self.num_envs, bool)
        return StepResult(self._points.copy(), final, reward, never, over, episodes)

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {
            "points": self._points.copy(),
            "steps": self._steps.copy(),
            "returns": self._returns.copy(),
            "generator": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state`` was taken."""
        if np.shape(state["points"]) != self._points.shape:
            raise ValueError(f"expected points of shape {self._points.shape}")
        self._points, self._steps = np.array(state["points"]), np.array(state["steps"])
        self._returns = np.array(state["returns"])
        self._rng.bit_generator.state = state["generator"]

    def close(self) -> None:
        """Nothing to free."""
