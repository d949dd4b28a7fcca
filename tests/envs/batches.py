"""What tests of batches of worlds on the host share."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.envs.contract import StepResult


def actions(world: Any, steps: int) -> np.ndarray:
    shape = steps, world.num_envs, world.action_size
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def assert_equal(one: StepResult, other: StepResult) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
