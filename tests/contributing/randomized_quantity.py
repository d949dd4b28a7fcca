"""The quantity ``armature`` of ``randomized_quantity.diff``, in both simulators that randomize."""

from pathlib import Path

import jax
import numpy as np

import booster_ray
from booster_ray.config import Config
from booster_ray.envs.make import make_world
from booster_ray.envs.mjx_model import mjx_parts
from booster_ray.envs.mjx_randomization import draw_factors, randomize
from booster_ray.envs.native import NativeWorld
from booster_ray.soccer.randomization import LEVELS

assert Path(booster_ray.__file__).is_relative_to(Path.cwd()), "not the changed copy"
JOINTS = slice(-12, None)

# --- native worlds: written into each world's own model, and saved with it ---
world_of = {"world": {"num_envs": 3}, "randomization": {"level": 3}}
world = make_world(Config.model_validate(world_of), threads=1)
assert isinstance(world, NativeWorld)
world.reset(0)
base = world._slots[0].parts.model.dof_armature[JOINTS]
ratios = np.stack([slot.model.dof_armature[JOINTS] for slot in world._slots]) / base
np.testing.assert_allclose(ratios, world.state()["factors"]["armature"])
assert 0.2 < np.abs(ratios - 1).max() <= 0.3 and len(np.unique(ratios)) == 36
world.close()
plain = make_world(Config.model_validate(world_of | {"randomization": {"level": 2}}), threads=1)
plain.reset(0)
assert (plain.state()["factors"]["armature"] == 1).all()
plain.close()

# --- MJX: multiplied into the model that all worlds share ---
parts = mjx_parts("jax")
factors = draw_factors(LEVELS[3], len(parts.robot_bodies), jax.random.PRNGKey(0))
from mujoco import mjx  # noqa: E402

model = mjx.put_model(parts.model, impl="jax")
randomized = randomize(model, parts, factors)
np.testing.assert_allclose(
    np.asarray(randomized.dof_armature[JOINTS] / model.dof_armature[JOINTS]),
    np.asarray(factors.armature),
    rtol=1e-6,
)
assert np.abs(np.asarray(factors.armature) - 1).max() > 0.15
