"""Environments that take their time: short ones, one whose steps are slow, one without an end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Counting(gymnasium.Env[np.ndarray, np.ndarray]):
    """Shows how far an episode is, and pays for actions near zero."""

    observation_space = Box(-10.0, 10.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, steps: int, pause: float = 0.0) -> None:
        self.steps, self.pause, self.count = steps, pause, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        if self.pause:
            time.sleep(self.pause)
            started = os.environ.get("SLOW_STARTED")
            if started and self.count:  # not in the one step with which it is tried
                Path(started).touch()
        self.count += 1
        seen = self.np_random.normal(size=2).astype(np.float32)
        return seen, 1.0 - float(np.abs(action).sum()), self.count == self.steps, False, {}


gymnasium.register("Slow-v0", Counting, kwargs={"steps": 20})
gymnasium.register("Long-v0", Counting, kwargs={"steps": 1000, "pause": 0.001})
gymnasium.register("Endless-v0", Counting, kwargs={"steps": -1})
