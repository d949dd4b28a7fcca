"""The part ``bearing`` of ``observation_part.diff``, wherever an observation is made or read."""

from pathlib import Path

import jax
import numpy as np

import booster_ray
from booster_ray.config import Config
from booster_ray.config.schema import Observation
from booster_ray.envs.make import make_world
from booster_ray.envs.mjx import SoccerEnv
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official_view import official_view
from booster_ray.envs.options import gains, soccer_options
from booster_ray.policy.preprocessor import render
from booster_ray.policy.sai import load_code
from booster_ray.policy.settings import settings_of
from booster_ray.rl.symmetry import mirrored
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.geometry import yaw
from booster_ray.soccer.observation import DIRECTION, Clock, append, image, noise, observe
from booster_ray.train.learner import make_learner

SIZE, NAMES, TASK = 91, ("bearing",), "kick_to_target"


def expected(frame: Frame) -> np.ndarray:
    way = frame.ball_pos - frame.imu_pos
    angle = np.arctan2(way[:, 1], way[:, 0]) - yaw(frame.imu_quat)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def in_the_mirror(frame: Frame) -> Frame:
    """As far as bearings go."""
    turned = {name: getattr(frame, name) * (1, -1, 1) for name in ("ball_pos", "imu_pos")}
    return frame._replace(imu_quat=frame.imu_quat * (1, -1, 1, -1), **turned)


assert Path(booster_ray.__file__).is_relative_to(Path.cwd()), "not the changed copy"

# --- config and its documentation ---
raw = {"tasks": [TASK], "observation": {"features": NAMES}, "sac": {"symmetry": "augment"}}
config = Config.model_validate(raw | {"world": {"num_envs": 2, "episode_seconds": 1.0}})
documented = Observation.model_fields["features"].description
assert documented is not None and "`bearing` (unit vector to the ball" in documented

# --- native worlds, some steps into their episodes ---
world = make_world(config, threads=1)
assert isinstance(world, NativeWorld) and world.observation_size == SIZE
world.reset(0)
turning = np.tile(np.linspace(-1, 1, 12), (2, 1))
for _ in range(3):
    seen = world.step(turning).observation
frame = world.frame()
assert np.abs(expected(frame)[:, 1]).min() > 1e-3  # there is a side to mistake
np.testing.assert_allclose(seen[:, -2:], expected(frame), atol=1e-6)

# --- noise and mirror ---
assert noise(NAMES)[-2:] == 2 * [DIRECTION]
pictured = mirrored(image(NAMES), seen)[:, -2:]
np.testing.assert_allclose(pictured, expected(in_the_mirror(frame)), atol=1e-6)
make_learner(config, SIZE, 12)  # refuses a mirror of another size

# --- the exported preprocessor, from official infos ---
preprocessor = load_code(render(settings_of(config)), "class", "preprocessor")
told = preprocessor.modify_state(*official_view(frame, TASK))
np.testing.assert_allclose(told[:, :SIZE], seen, atol=1e-6)

# --- MJX: traced, and the rules in JAX ---
env = SoccerEnv([TASK], gains(config), **soccer_options(config))
assert env.observation_size == SIZE
assert jax.eval_shape(env.reset, jax.random.key(0)).obs.shape == (SIZE,)
clock = Clock(np.zeros(2), np.zeros((2, 12)), np.ones(2))
on_device = jax.tree.map(jax.numpy.asarray, (frame, clock))
both = append(observe(on_device[0]), *on_device, NAMES)
np.testing.assert_allclose(both, seen, atol=2e-5)

# --- sai_mujoco's own environments ---
official = make_world(
    config.model_copy(update={"world": config.world.model_copy(update={"kind": "official"})}), 1, 1
)
assert official.reset(0).shape == (1, SIZE)
world.close()
official.close()
