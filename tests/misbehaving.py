"""Environments that do to their process what an exception does not tell."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Misbehaving(gymnasium.Env[np.ndarray, np.ndarray]):
    """Walks at random; after some steps does what ``how`` says."""

    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, how: str = "well", after: int = 3) -> None:
        self.how, self.after, self.count = how, after, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        return self._look(), {}

    def _look(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        if self.count > self.after and self.how != "well":
            if self.how == "raises":
                raise KeyError("level")
            if self.how == "leaves":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return self._look(), float(action[0]), self.np_random.random() < 0.2, False, {}


gymnasium.register("Misbehaving-v0", Misbehaving)
