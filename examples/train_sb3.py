"""Trains SAC of SBX, or else of Stable-Baselines3, in our worlds; then its official scores.

python examples/train_sb3.py [STEPS]
"""

import sys

import gymnasium

import booster_ray.envs.vector  # noqa: F401  (registers the ids)
from booster_ray.evaluate.play import play_native
from booster_ray.evaluate.predicting import predicting_target
from booster_ray.evaluate.summary import summarize

try:
    from sbx import SAC
except ImportError:
    from stable_baselines3 import SAC

env = gymnasium.make(
    "booster_ray/KickToTarget-v0",
    mode="pd",  # actions are joint targets in [-1, 1], as under control.* of a config
    decimation=10,  # at 50 Hz
    reward="dense",
    weights={"alive": 1.0, "upright": 0.5, "height": 20.0, "approach": 2.0, "fall": -5.0},
)
model = SAC("MlpPolicy", env, learning_starts=100, batch_size=64, seed=0)
model.learn(int((*sys.argv, 200)[1]))
model.save("sac.zip")  # python -m booster_ray.evaluate sac.zip --trust

target = predicting_target("mine", "object", model, settings=None)
episodes = play_native([1000, 1001], target.make_player, threads=2)
for task, found in summarize(episodes)["tasks"].items():
    print(f"{task}: {found['score']['mean']:+.2f}")
