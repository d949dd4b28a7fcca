"""A policy object of Stable-Baselines3 that is evaluated officially by its name.

python -m booster_ray.evaluate examples.evaluate_sb3:policy --episodes 2
python examples/evaluate_sb3.py
"""

import gymnasium
from stable_baselines3 import PPO

import booster_ray.envs.vector  # noqa: F401  (registers the ids)

# Anything with predict(), observation_space and action_space is played as it was trained: here
# by torques in N·m, held for 2 ms. What it acts between -1 and 1 is joint targets at 50 Hz.
env = gymnasium.make("booster_ray/GoaliePenaltyKick-v0")
policy = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0).learn(64).policy

if __name__ == "__main__":
    import sys

    from booster_ray.evaluate.command import main

    sys.exit(main(["examples.evaluate_sb3:policy", "--episodes", "2"]))
