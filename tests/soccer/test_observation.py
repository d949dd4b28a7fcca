"""The table of observation parts: its layout, and what is appended to the official numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reward_inputs import random_input, reward_input

from booster_ray.soccer import game, observation
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.geometry import rotate
from booster_ray.soccer.observation import FEATURES, NO_CLOCK, OFFICIAL, Clock, observe


def kept(phase: float = 0.0) -> Clock:
    return Clock(np.array(phase), np.arange(12) / 12, np.array(0.75))


def turned(frame: Frame, angle: float) -> Frame:
    """The whole scene of a task with a target, turned about the vertical."""
    half = np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])
    names = ("imu_pos", "ball_pos", "ball_vel", "target_pos")
    w, z = frame.imu_quat[0], frame.imu_quat[3]
    quat = np.array([w * half[0] - z * half[3], 0.0, 0.0, w * half[3] + z * half[0]])
    moved = {name: rotate(half, getattr(frame, name)) for name in names}
    return frame._replace(imu_quat=quat, **moved)


@pytest.mark.parametrize("angle", [0.4, 1.7, -2.9])
def test_egocentric_does_not_turn_with_the_scene(angle: float) -> None:
    frame = reward_input("kick_to_target", ball_vel=[0.3, -0.2, 0.0]).frame
    before = observation.egocentric(frame, kept())
    after = observation.egocentric(turned(frame, angle), kept())
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_egocentric_by_hand() -> None:
    # Facing +y, ball 1 m ahead and 0.5 m to the left, rolling away at 2 m/s, target to the right.
    frame = reward_input(
        "kick_to_target",
        imu_quat=[np.sqrt(0.5), 0, 0, np.sqrt(0.5)],
        imu_pos=[1.0, 1.0, 0.66],
        ball_pos=[0.5, 2.0, 0.0],
        ball_vel=[0.0, 2.0, 0.0],
        target_pos=[3.0, 2.0, 0.0],
    ).frame
    expected = [1, 0.5, 2, 0, 0, -1, 0.5, 0, 0]
    np.testing.assert_allclose(observation.egocentric(frame, kept()), expected, atol=1e-12)


def test_the_keeper_is_seen_from_the_ball_in_goalie_only() -> None:
    keepers = np.array([[-10.97, 0.4, 0.5], [10.97, 0.4, 0.5]])
    seen = observation.egocentric(reward_input("goalie", keeper_pos=keepers).frame, kept())
    np.testing.assert_allclose(seen[-2:], [-2.2, 0.4], atol=1e-12)
    unseen = observation.egocentric(reward_input("obstacle", keeper_pos=keepers).frame, kept())
    np.testing.assert_array_equal(unseen[-2:], 0)


def test_the_clock_turns_with_the_steps() -> None:
    steps = np.arange(0, 1001, 125)  # eighths of a cycle of 0.5 Hz
    phase = observation.gait_phase(steps, 0.5)
    np.testing.assert_allclose(phase, [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0])
    sine, cosine = observation.clock(reward_input().frame, Clock(phase, np.zeros((9, 12)), phase)).T
    np.testing.assert_allclose(sine[[0, 2, 4, 6]], [0, 1, 0, -1], atol=1e-12)
    np.testing.assert_allclose(cosine[[0, 2, 4, 6]], [1, 0, -1, 0], atol=1e-12)


def test_sizes_and_order() -> None:
    names = list(FEATURES)
    frame = reward_input().frame
    seen = observation.append(observe(frame), frame, kept(), names)
    assert seen.shape == (observation.size(names),) and seen.dtype == np.float32
    assert len(observation.noise(names)) == len(observation.image(names)) == len(seen)
    np.testing.assert_array_equal(seen[: game.OBSERVATION_SIZE], observe(frame))
    places = observation.places(names)
    assert list(places) == [*OFFICIAL, *names] and places["task"] == slice(86, 89)
    for name in names:
        part = FEATURES[name].compute(frame, kept())
        np.testing.assert_allclose(seen[places[name]], part, rtol=1e-6)
    with pytest.raises(KeyError):
        observation.size(["hat"])


CONSTANT = ("team", "task", "clock", "previous_action", "time_left")
"""Parts that no sensor measures."""


def test_noise_is_in_each_parts_own_unit() -> None:
    """Beside 0.03 rad of the joints' angles: half-widths of mujoco_playground's T1."""
    names = list(FEATURES)
    at, scales = observation.places(names), 0.03 * np.array(observation.noise(names))
    of = {name: scales[place] for name, place in at.items()}
    for name, width in {
        "joint_pos": 0.03, "joint_vel": 1.5, "gravity": 0.05, "gyro": 0.2, "velocimeter": 0.1,
        "accelerometer": 0.4905, "ball": 0.05, "ball_vel": 0.1, "ball_angvel": 0.2,
        "south_goal_from_ball": 0.05, "target": 0.05, "defenders": 0.05,
        **dict.fromkeys(CONSTANT, 0.0),
    }.items():  # fmt: skip
        np.testing.assert_allclose(of[name], width, err_msg=name)
    np.testing.assert_allclose(of["keepers"], 2 * [*3 * [0.05], *3 * [0.1]])
    still = [i for name in at if name in CONSTANT for i in range(113)[at[name]]]
    np.testing.assert_array_equal(np.flatnonzero(scales == 0), still)


def test_the_layout_is_the_competitions() -> None:
    """The order of training_scripts/main.py, written once more."""
    told = [key for name, part in OFFICIAL.items() for key in part.infos or (name,)]
    assert told == [
        "joint_pos", "joint_vel", "gravity",
        "robot_gyro", "robot_accelerometer", "robot_velocimeter",
        "goal_team_0_rel_robot", "goal_team_1_rel_robot",
        "goal_team_0_rel_ball", "goal_team_1_rel_ball",
        "ball_xpos_rel_robot", "ball_velp_rel_robot", "ball_velr_rel_robot",
        "player_team",
        "goalkeeper_team_0_xpos_rel_robot", "goalkeeper_team_0_velp_rel_robot",
        "goalkeeper_team_1_xpos_rel_robot", "goalkeeper_team_1_velp_rel_robot",
        "target_xpos_rel_robot", "target_velp_rel_robot",
        "defender_xpos", "task_index",
    ]  # fmt: skip
    assert observation.size() == game.OBSERVATION_SIZE == 89
    at = observation.places()
    assert (at["gravity"], at["velocimeter"], at["ball"]) == (
        slice(24, 27), slice(33, 36), slice(48, 51),
    )  # fmt: skip


def test_every_part_has_the_size_of_its_image() -> None:
    frame = random_input(0, 1.0).frame
    for name, part in OFFICIAL.items():
        assert part.compute(frame, NO_CLOCK).shape[-1] == part.size, name
        assert part.size % max(len(part.infos), 1) == 0, name


@pytest.mark.parametrize("scale", [0.5, 12.0])
def test_numpy_equals_jax_and_all_is_finite(scale: float) -> None:
    m = random_input(0, scale)
    clock = Clock(m.phase, m.previous_action, m.phase)
    for name, feature in FEATURES.items():
        ours = feature.compute(m.frame, clock)
        theirs = feature.compute(*jax.tree.map(jnp.asarray, (m.frame, clock)))
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5, err_msg=name)
        assert np.isfinite(ours).all() and ours.shape[-1] == feature.size


def test_the_balls_ground_velocity_does_not_need_the_keepers() -> None:
    """Official infos tell no keeper's true speed where it touches a post."""
    frame = reward_input().frame
    for task in range(len(game.TASKS)):
        one = frame._replace(task=np.array(task))
        seen = observation.ground_velocity(one)
        if task != game.GOALIE:
            np.testing.assert_array_equal(seen, one.ball_vel)
        else:
            own = rotate(one.imu_quat, one.velocimeter)
            np.testing.assert_allclose(seen, one.ball_vel - one.root_vel + own, atol=1e-5)
        pushed = one._replace(keeper_vel=one.keeper_vel + 1.0)
        np.testing.assert_array_equal(observation.ground_velocity(pushed), seen)
