"""The mirror against the rules' own observation, and against MuJoCo."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from booster_ray.envs.model import soccer_model
from booster_ray.envs.native import NativeWorld
from booster_ray.rl.symmetry import Image, mirrored
from booster_ray.soccer import game
from booster_ray.soccer import observation as rules
from booster_ray.soccer.control import leg_gains
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import Clock, append, gait_phase, remaining
from booster_ray.soccer.symmetry import ACTION, AXIAL, CLOCK, JOINTS, VECTOR, joined

GAINS = leg_gains((-0.2, 0.0, 0.0, 0.4, -0.25, 0.0), 0.5, (200.0,) * 6, (5.0,) * 6)
OBSERVATION = rules.image()
NAMES = ("egocentric", "clock", "previous_action")
WITH_FEATURES = rules.image(NAMES)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (OBSERVATION, game.OBSERVATION_SIZE),
        (ACTION, game.ACTION_SIZE),
        (WITH_FEATURES, game.OBSERVATION_SIZE + 23),
    ],
)
def test_twice_in_the_mirror_is_the_original(image: Image, size: int) -> None:
    assert sorted(place for place, _ in image) == list(range(size))
    x = np.random.default_rng(0).normal(size=(5, size)).astype(np.float32)
    np.testing.assert_array_equal(mirrored(image, mirrored(image, x)), x)
    assert not np.array_equal(mirrored(image, x), x)


def test_the_default_pose_and_the_limits_are_their_own_images() -> None:
    pose = np.asarray(GAINS.default_pose)
    np.testing.assert_array_equal(mirrored(JOINTS, pose), pose)
    limits = np.array(game.TORQUE_LIMITS)
    np.testing.assert_array_equal(limits[[place for place, _ in JOINTS]], limits)
    low, high = np.array(game.JOINT_RANGES).T
    # Where a joint's sign changes, its lower limit becomes the upper one.
    images = mirrored(JOINTS, low), mirrored(JOINTS, high)
    np.testing.assert_array_equal(np.minimum(*images), low)
    np.testing.assert_array_equal(np.maximum(*images), high)


def frame(rng: np.random.Generator, n: int) -> Frame:
    """Arbitrary worlds."""

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=(n, *shape))

    quat = draw(4)
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    return Frame(
        task=rng.integers(0, 3, n), joint_pos=draw(12), joint_vel=draw(12), imu_pos=draw(3),
        imu_quat=quat, gyro=draw(3), accelerometer=draw(3), velocimeter=draw(3), root_vel=draw(3),
        ball_pos=draw(3), ball_vel=draw(3), ball_angvel=draw(3), ball_center_vel=draw(3),
        root_angvel=draw(3),
        keeper_pos=draw(2, 3), keeper_vel=draw(2, 3), target_pos=draw(3), target_vel=draw(3),
        defender_pos=draw(3, 3), foot_pos=draw(2, 3), foot_vel=draw(2, 3),
        foot_contact=np.ones((n, 2), bool), ball_contact=np.ones(n, bool),
        ball_blocked=np.ones(n, bool), ball_hits=np.ones(n, np.int32), torque=draw(12),
    )  # fmt: skip


def frame_in_the_mirror(seen: Frame) -> Frame:
    """Every quantity by what it is, independent of its place in the observation."""
    vectors = (
        "imu_pos", "accelerometer", "velocimeter", "root_vel", "ball_pos", "ball_vel",
        "ball_center_vel", "keeper_pos", "keeper_vel", "target_pos", "target_vel", "defender_pos",
    )  # fmt: skip
    turns = ("gyro", "ball_angvel", "root_angvel")
    # A rotation by an angle about an axis: both components in the mirror's plane turn round.
    quat = seen.imu_quat * (1, -1, 1, -1)
    swap = np.array([6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5])
    flip = np.array([-1 if "Roll" in name or "Yaw" in name else 1 for name in game.JOINTS])
    return seen._replace(
        imu_quat=quat,
        joint_pos=seen.joint_pos[:, swap] * flip,
        joint_vel=seen.joint_vel[:, swap] * flip,
        **{name: getattr(seen, name) * (1, -1, 1) for name in vectors},
        **{name: getattr(seen, name) * (-1, 1, -1) for name in turns},
    )


def test_observing_the_image_is_imagining_the_observation() -> None:
    seen = frame(np.random.default_rng(1), 50)
    observed = rules.observe(seen)
    expected = rules.observe(frame_in_the_mirror(seen))
    np.testing.assert_allclose(mirrored(OBSERVATION, observed), expected, atol=1e-5)


def test_features_of_the_image_too() -> None:
    rng = np.random.default_rng(2)
    seen, steps, action = frame(rng, 50), rng.integers(0, 5000, 50), rng.normal(size=(50, 12))
    half_a_period = 250  # steps of 2 ms at 1 Hz
    both = [
        append(rules.observe(f), f, Clock(gait_phase(s, 1.0), a, remaining(s)), NAMES)
        for f, s, a in (
            (seen, steps, action),
            (frame_in_the_mirror(seen), steps + half_a_period, mirrored(JOINTS, action)),
        )
    ]
    np.testing.assert_allclose(mirrored(WITH_FEATURES, both[0]), both[1], atol=1e-5)


# --- physics ---

JOINT_POS, JOINT_VEL = slice(0, 12), slice(12, 24)
TURNS = [*range(24, 30), *range(54, 57)]
"""Gravity, and angular velocities of the robot and of the ball, rad/s."""
REST = [*range(33, 54), *range(57, game.OBSERVATION_SIZE)]
"""m and m/s, one-hots; not the accelerometer, which tells every touch of the ground."""


@pytest.fixture(scope="module", params=game.TASKS)
def pair(request: pytest.FixtureRequest) -> Iterator[NativeWorld]:
    world = NativeWorld([request.param], 2, GAINS)
    yield world
    world.close()


def put_in_the_mirror(world: NativeWorld) -> None:
    """World 1 becomes the image of world 0."""
    (task,) = {game.TASKS[t] for t in world.task}
    parts, state = soccer_model(task), world.state()
    data, kind = mujoco.MjData(parts.model), int(mujoco.mjtState.mjSTATE_INTEGRATION)
    size = mujoco.mj_stateSize(parts.model, kind)
    mujoco.mj_setState(parts.model, data, state["physics"][0, :size].copy(), kind)
    free = joined(VECTOR, ((0, 1), (1, -1), (2, 1), (3, -1)))  # position, quaternion
    data.qpos[:7] = mirrored(free, data.qpos[:7])
    for velocity in (data.qvel, data.qacc_warmstart):
        velocity[:6] = mirrored(joined(VECTOR, AXIAL), velocity[:6])
        root = velocity[parts.root_qvel :]
        root[:] = mirrored(joined(VECTOR, AXIAL, JOINTS), root)
    root = data.qpos[parts.root_qpos :]
    root[:] = mirrored(joined(free, JOINTS), root)
    mujoco.mj_getState(parts.model, data, state["physics"][1, :size], kind)
    counters = state["counters"]
    counters["target"][1] = mirrored(VECTOR, counters["target"][0])
    counters["defender_y"][1] = -counters["defender_y"][0]
    half_a_period = round(0.5 / game.KEEPER_FREQUENCY / game.TIMESTEP)
    counters["steps"][1] = counters["steps"][0] + half_a_period
    world.restore(state)


def test_physics_in_the_mirror(pair: NativeWorld) -> None:
    """The image of a play is played: only the legs' masses, of which one differs by 3 %, tell."""
    rng = np.random.default_rng(3)
    pair.reset(0)
    for _ in range(10):
        pair.step(np.repeat(rng.uniform(-0.3, 0.3, (1, game.ACTION_SIZE)), 2, axis=0))
    put_in_the_mirror(pair)
    for _ in range(5):
        action = rng.uniform(-0.3, 0.3, game.ACTION_SIZE)
        result = pair.step(np.stack([action, mirrored(ACTION, action)]))
        assert not result.terminated.any()
        seen, image = result.observation
        expected = mirrored(OBSERVATION, seen)
        error = np.abs(expected - image)
        left = np.abs(expected - seen)  # what a mirror that does nothing would get wrong
        for part, bound in ((JOINT_POS, 0.01), (JOINT_VEL, 0.5), (TURNS, 0.2), (REST, 0.02)):
            np.testing.assert_array_less(error[part], bound)
            assert left[part].max() > 2 * bound


def test_clock_mirrors_as_half_a_period() -> None:
    angle = np.linspace(0, 6, 7)
    clock = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    later = np.stack([np.sin(angle + np.pi), np.cos(angle + np.pi)], axis=-1)
    np.testing.assert_allclose(mirrored(CLOCK, clock), later, atol=1e-12)
