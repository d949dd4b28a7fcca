"""Any gymnasium code can train against the official game, many worlds at a time.

python examples/official_game_fast.py
"""

import gymnasium
import numpy as np

import booster_ray.envs.vector  # noqa: F401  (registers the ids)

envs = gymnasium.make_vec("booster_ray/GoaliePenaltyKick-v0", num_envs=8)
observation, info = envs.reset(seed=0)
rng = np.random.default_rng(0)
for _ in range(300):
    torque = rng.uniform(envs.action_space.low, envs.action_space.high).astype(np.float32)
    observation, reward, terminated, truncated, info = envs.step(0.2 * torque)
    for score in reward[terminated | truncated]:
        print(f"episode over, official score {score:.3f}")
envs.close()
