"""The kind ``point_mass`` of ``world.diff``: trained in, evaluated and resumed bit for bit."""

from pathlib import Path

import numpy as np

import booster_ray
from booster_ray.config import load
from booster_ray.store import checkpoint
from booster_ray.store.files import read_progress
from booster_ray.train.run import Run

assert Path(booster_ray.__file__).is_relative_to(Path.cwd()), "not the changed copy"
CONFIG = """
name: point
world: {kind: point_mass, num_envs: 8}
sac: {batch_size: 32, learning_starts: 64, replay_size: 4096, actor_hidden: [16],
  critic_hidden: [16]}
training: {env_steps: 1600, report_every: 400}
evaluation: {every: 800, episodes_per_task: 4}
checkpoint: {every_env_steps: 800}
"""
file = Path("point.yaml")
file.write_text(CONFIG)
whole, halved = Path("whole"), Path("halved")
config = load(file).base()
list(Run(config, whole))
reports = read_progress(whole)
assert reports[-1]["env_steps"] == 1600 and 0 < reports[-1]["score"] <= 50

for metrics in (half := iter(Run(config, halved))):
    if metrics["env_steps"] >= 800:
        half.close()
        break
list(Run(config, halved))
ours, theirs = (checkpoint.load(max(path.glob("step_*")))[0] for path in (whole, halved))
for name, leaf in ours["learner"].items():
    np.testing.assert_array_equal(leaf, theirs["learner"][name], err_msg=name)
np.testing.assert_array_equal(ours["world"]["x"], theirs["world"]["x"])
