"""A native frame, told as the official environment tells it."""

from typing import Any

import numpy as np
import pytest

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import make_official
from booster_ray.envs.official_view import official_view
from booster_ray.envs.options import gains
from booster_ray.soccer import game

SEED, STEPS = 3, 80


@pytest.mark.parametrize("task", game.TASKS)
def test_it_is_the_official_observation_and_infos(task: str) -> None:
    env = make_official(task)
    options: dict[str, Any] = {"mode": "newton_metres", "decimation": 1, "auto_reset": False}
    world = NativeWorld([task], 2, gains(Config()), **options)
    observation, info = env.reset(seed=SEED)
    world.reset(0, env_seeds=[SEED, SEED + 1])
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        seen, told = official_view(world.frame(), task)
        assert seen.shape == (2, *env.observation_space.shape)
        assert seen.dtype == env.observation_space.dtype
        # To the bit: chaos would make another episode of anything else.
        np.testing.assert_array_equal(seen[0], observation, err_msg=f"step {step}")
        assert set(told) - {"task_index"} == set(info) - {"reward_terms"}
        for name, value in info.items():
            if name != "reward_terms":
                assert told[name].dtype == np.asarray(value).dtype, name
                np.testing.assert_allclose(told[name][0], value, atol=1e-12, err_msg=name)
        assert told["task_index"][0].argmax() == game.TASKS.index(task)
        torque = rng.uniform(-0.5, 0.5, (2, 12)) * game.TORQUE_LIMITS
        observation, _, _, _, info = env.step(torque[0])
        world.step(torque)
    env.close()
    world.close()
