"""Environments that fail in the middle of training, as other people's do."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

EPISODE = 10
LAST = 100
"""Steps, of all copies in a process, that go well."""
SOUND = "SOUND_TRIAL"
"""Name of a file; the first process that creates it has an environment that does not fail."""


class Failing(gymnasium.Env[np.ndarray, np.ndarray]):
    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    made = 0
    """Steps of this process."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        Failing.made += 1
        self._steps += 1
        if Failing.made == LAST:
            self.fail()
        return np.zeros(2, np.float32), float(action[0]), False, self._steps >= EPISODE, {}

    def fail(self) -> None:
        raise NotImplementedError


class Disk(Failing):
    """Its own file is away, once and for all; one process's is not."""

    def fail(self) -> None:
        if name := os.environ.get(SOUND):
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL))
                return
            except FileExistsError:
                pass
        raise OSError(5, "Input/output error", "/mnt/maps/field.png")


class Hang(Failing):
    """Waits for ever, in the first process that comes so far."""

    def fail(self) -> None:
        try:
            os.close(os.open(os.environ[SOUND], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        time.sleep(3600)


class Abort(Failing):
    """A C library of its ends the process."""

    def fail(self) -> None:
        os.write(2, b"solver.c:7: solve: Assertion `n > 0' failed.\n")
        os.abort()


for kind in (Disk, Hang, Abort):
    gymnasium.register(f"failing/{kind.__name__}-v0", kind)
