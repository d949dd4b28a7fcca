"""Observation, scoring and reward terms on hand-made and on random frames."""

import runpy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_inputs import BATCH, GAINS, POSE, random_input, reward_input

from booster_ray.config.schema import Rewards
from booster_ray.soccer import control, game, geometry, rewards, scoring
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import observe, projected_gravity
from booster_ray.soccer.rewards import TERMS, RewardInput, reward


def everything(m: RewardInput) -> dict[str, Any]:
    """Everything that the rules say."""
    f = m.frame
    target = control.pd_target(m.action, GAINS)
    return {
        "observation": observe(f),
        "score": scoring.official_score(f),
        "terminated": scoring.terminated(f),
        "fallen": scoring.fallen(f),
        "in goal": scoring.ball_in_goal(f),
        "outside": scoring.outside_field(f),
        "heading": geometry.yaw(f.imu_quat),
        "torque": control.pd_torque(target, f.joint_pos, f.joint_vel, GAINS),
        "reward": reward(m, dict.fromkeys(TERMS, 0.5))[0],
        **{f"raw {name}": value for name, value in scoring.raw_terms(f).items()},
        **{f"term {name}": term.compute(m) for name, term in TERMS.items()},
    }


jit_everything = jax.jit(everything)

random_inputs = st.builds(
    random_input, st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.5, 3.0, 12.0, 300.0])
)


# -- NumPy, JAX, batches -----------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(random_inputs)
def test_numpy_equals_jax(m: RewardInput) -> None:
    ours = everything(m)
    theirs = jit_everything(m)
    for name, value in ours.items():
        assert np.isfinite(value).all(), name
        assert value.dtype == theirs[name].dtype, name
        if value.dtype == bool:
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
        else:
            np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(random_inputs)
def test_batched_equals_single(m: RewardInput) -> None:
    whole = everything(m)
    for i in range(0, BATCH, 7):
        frame = Frame(*(np.asarray(part[i]) for part in m.frame))
        rest = (part[i] for part in m[4:])
        one = everything(RewardInput(frame, m.action[i], m.previous_action[i], POSE, *rest))
        for name, value in one.items():
            np.testing.assert_allclose(
                value, whole[name][i], rtol=1e-6, atol=1e-6, err_msg=name, strict=False
            )


def test_two_batch_axes() -> None:
    m = random_input(0, 3.0)
    folded = Frame(*(part.reshape(4, BATCH // 4, *part.shape[1:]) for part in m.frame))
    np.testing.assert_array_equal(observe(folded).reshape(BATCH, 89), observe(m.frame))
    np.testing.assert_array_equal(
        scoring.official_score(folded).ravel(), scoring.official_score(m.frame)
    )


# -- geometry and observation ------------------------------------------------------------------


def test_projected_gravity_of_known_rotations() -> None:
    s = np.sqrt(0.5)
    rotations = {  # w x y z
        (1.0, 0.0, 0.0, 0.0): (0, 0, -1),
        (s, 0.0, 0.0, s): (0, 0, -1),  # turned left: still upright
        (s, s, 0.0, 0.0): (0, -1, 0),  # rolled by +90°: on the right side, y axis up
        (s, 0.0, s, 0.0): (1, 0, 0),  # pitched by +90°: on the face, x axis down
        (0.0, 1.0, 0.0, 0.0): (0, 0, 1),  # upside down
    }
    got = projected_gravity(np.array(list(rotations)))
    np.testing.assert_allclose(got, np.array(list(rotations.values())), atol=1e-12)


def test_rotations_invert_each_other() -> None:
    m = random_input(1, 1.0)
    quat, vector = m.frame.imu_quat.astype(float), m.frame.gyro.astype(float)
    there = geometry.rotate(quat, vector)
    np.testing.assert_allclose(geometry.rotate_inverse(quat, there), vector, atol=1e-6)
    np.testing.assert_allclose(geometry.norm(there), geometry.norm(vector), atol=1e-6)
    np.testing.assert_allclose(geometry.cross(quat[:, 1:], vector), np.cross(quat[:, 1:], vector))


def test_yaw() -> None:
    angle = np.array([-3.0, -1.0, 0.0, 2.0])
    zero = np.zeros(4)
    quat = np.stack([np.cos(angle / 2), zero, zero, np.sin(angle / 2)], axis=-1)
    np.testing.assert_allclose(geometry.yaw(quat), angle)


def test_observation_layout() -> None:
    frame = reward_input("kick_to_target", ball_vel=[1.0, 2, 3], root_vel=[0.5, 0, 0]).frame
    seen = observe(frame)
    assert seen.shape == (89,) and seen.dtype == np.float32
    np.testing.assert_allclose(seen[24:27], [0, 0, -1])
    np.testing.assert_allclose(seen[36:39], [-10.97 + 6.77, 0, -rewards.STANDING_HEIGHT], rtol=1e-6)
    np.testing.assert_allclose(seen[48:54], [-2, 0, 0.11 - 0.66, 0.5, 2, 3], rtol=1e-5)
    np.testing.assert_allclose(seen[57:59], [1, 0])  # team
    np.testing.assert_allclose(seen[71:74], [-2, 3, -0.66], rtol=1e-5)  # target
    np.testing.assert_allclose(seen[86:], [0, 0, 1])  # task


# -- official score ----------------------------------------------------------------------------


def score(task: str = "goalie", **changes: Any) -> float:
    return float(scoring.official_score(reward_input(task, **changes).frame))


def test_weights() -> None:
    # SPEC section 2, the table of the competition's evaluation functions.
    assert scoring.WEIGHTS["kick_to_target"] == {
        "offside": -1.0, "success": 2.0, "distance": 0.5, "steps": -0.3,
    }  # fmt: skip
    assert scoring.WEIGHTS["goalie"] == scoring.WEIGHTS["obstacle"] == {
        "robot_distance_ball": 0.25, "ball_vel_twd_goal": 1.5, "goal_scored": 2.5, "offside": -3.0,
        "ball_hits": -0.2, "robot_fallen": -1.5, "ball_blocked": -0.5, "steps": -1.0,
    }  # fmt: skip


def test_scores_of_doing_nothing() -> None:
    # Measured in the official environment: standing still -0.99, falling over -2.49.
    down = {"imu_pos": [-6.77, 0.0, 0.4]}
    for task in ("goalie", "obstacle"):
        assert score(task) == pytest.approx(-0.99, abs=0.005)
        assert score(task, **down) == pytest.approx(-2.49, abs=0.005)
    assert score("kick_to_target") == pytest.approx(-0.3 + 0.5 * np.exp(-np.hypot(3, 0.11)))
    assert score("kick_to_target", **down) == score("kick_to_target")


def test_scores_of_events() -> None:
    still = score()
    # Once touched the distance term is 1.5; each further contact costs 0.2 ln(1 + n).
    touched = score(ball_hits=1)
    assert touched == pytest.approx(-1 + 0.25 * 1.5)
    assert score(ball_hits=3) == pytest.approx(touched - 0.2 * np.log(3))
    assert score(ball_blocked=True) == pytest.approx(still - 0.5)
    # 6 m/s towards -x are worth 9 in the penalty tasks and nothing in the other.
    assert score(ball_vel=[-6.0, 3, 0]) == pytest.approx(still + 9)
    assert score("kick_to_target", ball_vel=[-6.0, 3, 0]) == score("kick_to_target")
    far = {"imu_pos": [100.0, 0, 1], "ball_pos": [-11.0, 0, 0.2]}
    assert score(**far) == pytest.approx(2.5 - 1)
    assert score(**far | {"ball_pos": [-11.0, 1.7, 0.2]}) == pytest.approx(-3 - 1)
    at = {"target_pos": [1.0, 1, 0], "ball_pos": [1.0, 1, 0.1]}
    assert score("kick_to_target", **at) == pytest.approx(2 - 0.3 + 0.5 * np.exp(-0.1))


@pytest.mark.parametrize(
    ("task", "ball", "ends", "scores"),
    [
        ("goalie", (-10.9, 0, 0.2), False, False),
        ("goalie", (-10.98, 0, 0.2), True, True),
        ("goalie", (-10.98, 1.59, 1.89), True, True),
        ("goalie", (-10.98, 1.61, 0.2), True, False),  # beside the post
        ("goalie", (-10.98, 0, 1.91), True, False),  # over the bar
        ("goalie", (-12.58, 0, 0.2), True, False),  # behind the net
        ("goalie", (10.98, 0, 0.2), True, False),  # their own goal
        ("goalie", (0, -6.88, 0.2), True, False),
        ("goalie", (0, -6.86, 0.2), False, False),
        ("obstacle", (-10.98, 0, 0.2), True, False),  # a ground ball passes under the sphere
        ("obstacle", (-10.97, 0.5, 1.29), True, True),
        ("obstacle", (-10.97, 0.5, 1.31), False, False),
        ("kick_to_target", (-10.97, 0.5, 1.39), True, True),
        ("kick_to_target", (-10.98, 0.5, 1.0), True, True),
        ("kick_to_target", (-10.97, 0.5, 1.41), False, False),
    ],
)
def test_goals_and_lines(task: str, ball: tuple, ends: bool, scores: bool) -> None:
    frame = reward_input(task, ball_pos=np.array(ball, float), target_pos=[-10.97, 0.5, 1.0]).frame
    assert scoring.terminated(frame) == ends
    assert scoring.ball_in_goal(frame) == scores
    # A goal forgives leaving the field, except in kick_to_target.
    beyond = abs(ball[0]) > 10.97 or abs(ball[1]) > 6.87
    assert scoring.outside_field(frame) == (beyond and (task == "kick_to_target" or not scores))


def test_falling_and_blocks_end_an_episode() -> None:
    assert scoring.terminated(reward_input(imu_pos=[0, 0, 0.4]).frame)
    assert not scoring.terminated(reward_input(imu_pos=[0, 0, 0.4001]).frame)
    assert scoring.terminated(reward_input(imu_pos=[0, 0, np.nan]).frame)
    for task, ends in (("goalie", True), ("obstacle", True), ("kick_to_target", False)):
        assert scoring.terminated(reward_input(task, ball_blocked=True).frame) == ends


# -- dense terms -------------------------------------------------------------------------------


def term(name: str, task: str = "goalie", **changes: Any) -> float:
    return float(TERMS[name].compute(reward_input(task, **changes)))


def test_terms_are_the_configs() -> None:
    assert list(TERMS) == list(Rewards.model_fields)
    assert Rewards().model_dump() == {name: term.weight for name, term in TERMS.items()}


def test_the_documentation_has_a_row_of_each_term() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = runpy.run_path(str(docs / "rewards.py"))["page"]
    assert (docs / "rewards.md").read_text("utf-8") == page(), "run docs/rewards.py"


def tilt(degrees: float) -> list[float]:
    half = np.radians(degrees) / 2
    return [np.cos(half), 0.0, np.sin(half), 0.0]


def test_posture_terms() -> None:
    assert term("upright") == 1
    assert term("upright", imu_quat=tilt(24)) == pytest.approx(0.5, abs=0.02)
    assert term("upright", imu_quat=tilt(-24)) == term("upright", imu_quat=tilt(24))
    assert term("upright", imu_quat=tilt(90)) == pytest.approx(np.exp(-4))
    assert term("height") == 1
    for z in (0.56, 0.76):
        assert term("height", imu_pos=[0, 0, z]) == pytest.approx(np.exp(-1))
    assert term("pose") == 1
    assert term("pose", joint_pos=POSE + 1) == pytest.approx(np.exp(-12))
    assert term("vertical_velocity", root_vel=[5, 5, -2]) == 4
    assert (term("alive"), term("fall")) == (1, 0)
    down = {"imu_pos": [0, 0, 0.4]}
    assert (term("alive", **down), term("fall", **down)) == (0, 1)


def test_heading_terms() -> None:
    assert term("facing_ball") == pytest.approx(-1, abs=1e-5)
    turned = [0.0, 0.0, 0.0, 1.0]
    assert term("facing_ball", imu_quat=turned) == pytest.approx(1, abs=1e-5)
    aside = [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]
    assert term("facing_ball", imu_quat=aside) == pytest.approx(0, abs=1e-5)
    assert term("behind_ball") == pytest.approx(1, abs=1e-5)
    assert term("behind_ball", imu_pos=[-10.0, 0, 0.66]) == pytest.approx(-1, abs=1e-5)
    # The target of kick_to_target lies across.
    assert term("behind_ball", "kick_to_target") == pytest.approx(0, abs=1e-5)


def test_ball_terms() -> None:
    assert term("ball_speed", ball_vel=[-2.0, 5.0, 0]) == pytest.approx(2, rel=1e-5)
    assert term("ball_speed", ball_vel=[2.0, 0, 0]) == 0
    assert term("ball_speed", "kick_to_target", ball_vel=[7, 2.0, 0]) == pytest.approx(2, rel=1e-5)
    inside = {"ball_pos": [-11.0, 0.0, 0.1]}
    assert term("goal", **inside, ended=True) == 1
    assert term("goal", **inside) == term("goal", ended=True) == 0


def feet(left: float, right: float) -> np.ndarray:
    return np.array([[0.0, 0.1, left], [0.0, -0.1, right]])


def test_gait_terms() -> None:
    ground, top = rewards.STANDING_FOOT, rewards.STANDING_FOOT + rewards.SWING_HEIGHT
    # The left foot swings first; at a quarter cycle it is highest.
    assert term("gait", foot_pos=feet(top, ground), phase=0.25) == pytest.approx(1)
    assert term("gait", foot_pos=feet(ground, top), phase=0.75) == pytest.approx(1)
    assert term("gait", foot_pos=feet(ground, ground), phase=0.0) == pytest.approx(1)
    low = rewards.GAIT_TOLERANCE
    assert term("gait", foot_pos=feet(ground + low, ground), phase=0.5) == pytest.approx(1 / np.e)
    both, left, none = np.array([True, True]), np.array([False, True]), np.array([False, False])
    assert term("stepping", foot_contact=left, phase=0.25) == 1
    assert term("stepping", foot_contact=none, phase=0.25) == 1
    assert term("stepping", foot_contact=left, phase=0.75) == 0
    assert term("stepping", foot_contact=both, phase=0.25) == 0
    assert term("stepping", foot_contact=none, phase=0.0) == 0


def test_feet_terms() -> None:
    flown = np.array([0.35, 0.0])
    assert term("feet_air_time", air_time=flown) == pytest.approx(0.15)
    assert term("feet_air_time", air_time=flown, foot_contact=np.array([False, True])) == 0
    assert term("feet_air_time", air_time=np.array([9.0, 0.1])) == pytest.approx(0.3 - 0.1)
    assert term("feet_distance", foot_pos=feet(0, 0)) == pytest.approx(0)
    assert term("feet_distance", foot_pos=0.25 * feet(0, 0)) == pytest.approx(0.15)
    assert term("feet_distance", foot_pos=-feet(0, 0)) == pytest.approx(0.2)
    assert term("angular_velocity", gyro=[1.0, 2.0, 9.0]) == 5


def test_approach() -> None:
    # The ball lies 2 m away towards -x.
    assert term("approach") == 0
    assert term("approach", root_vel=[-0.4, 0, 0]) == pytest.approx(0.5, rel=1e-5)
    assert term("approach", root_vel=[0.4, 0, 0]) == pytest.approx(-0.5, rel=1e-5)
    assert term("approach", root_vel=[0, 3, 3]) == pytest.approx(0, abs=1e-9)
    assert term("approach", root_vel=[-9, 0, 0]) == 1
    assert term("approach", root_vel=[9, 0, 0]) == -1
    assert term("approach", root_vel=[9, 0, 0], ball_pos=[-6.77, 0, 0]) == 0  # over the ball


def test_ball_velocity_points_where_the_task_wants_it() -> None:
    # The goal lies towards -x, the target towards +y of the ball.
    for task in ("obstacle", "kick_to_target"):
        assert term("ball_velocity", task, ball_vel=[7, 3, 9]) == pytest.approx(3, rel=1e-5)
        assert term("ball_velocity", task, ball_vel=[7, -3, 9]) == pytest.approx(-3, rel=1e-5)
    assert term("ball_velocity", ball_vel=[-7, 3, 9]) == 7
    assert term("ball_velocity", ball_vel=[7, 3, 9]) == -7
    assert term("ball_contact") == 0
    assert term("ball_contact", ball_contact=True) == 1


def test_effort_terms() -> None:
    assert term("torque") == term("smoothness") == term("joint_velocity") == 0
    limits = np.array(game.TORQUE_LIMITS)
    assert term("torque", torque=-limits) == 1
    assert term("torque", torque=limits * (np.arange(12) == 0)) == pytest.approx(1 / 12)
    assert term("smoothness", action=np.full(12, 0.5)) == 0.25
    steady = np.full(12, 0.5)
    assert term("smoothness", action=steady, previous_action=steady) == 0
    assert term("joint_velocity", joint_vel=np.full(12, -3.0)) == 9


def test_joint_limits() -> None:
    low, high = np.array(game.JOINT_RANGES).T
    margin = 0.05 * (high - low)
    assert term("joint_limits", joint_pos=low + margin + 1e-9) == 0
    assert term("joint_limits", joint_pos=high - margin - 1e-9) == 0
    assert term("joint_limits", joint_pos=high) == pytest.approx(margin.sum())
    one = (low + high) / 2
    one[3] = low[3] - 0.1
    assert term("joint_limits", joint_pos=one) == pytest.approx(margin[3] + 0.1)


def test_feet_slip_only_in_contact() -> None:
    speed = {"foot_vel": [[3.0, 4, 9], [1, 0, 9]]}
    assert term("foot_slip", **speed) == 26
    assert term("foot_slip", **speed, foot_contact=[False, True]) == 1
    assert term("foot_slip", **speed, foot_contact=[False, False]) == 0


@pytest.mark.parametrize("task", game.TASKS)
def test_official_is_paid_at_the_end_only(task: str) -> None:
    assert term("official", task) == 0
    assert term("official", task, ended=True) == score(task) != 0


def test_reward_is_the_weighted_sum() -> None:
    m = random_input(2, 3.0)
    weights = {name: 0.1 * i - 0.5 for i, name in enumerate(TERMS)}
    expected = sum(w * TERMS[name].compute(m).astype(float) for name, w in weights.items())
    total, summands = reward(m, weights)
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4)
    assert list(summands) == [name for name, weight in weights.items() if weight]
    np.testing.assert_allclose(sum(summands.values()), total, rtol=1e-4, atol=1e-4)
    nothing, summands = reward(m, {"alive": 0.0})
    assert nothing.shape == (BATCH,) and not nothing.any() and not summands


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_an_unknown_weight_is_refused(weight: float) -> None:
    with pytest.raises(KeyError, match="alvie"):
        reward(reward_input(), {"alvie": weight})


# -- control -----------------------------------------------------------------------------------


def test_pd_pulls_towards_the_target_within_the_limits() -> None:
    gains = GAINS._replace(kp=np.full(12, 10.0), kd=np.full(12, 2.0))
    target = control.pd_target(np.ones(12), gains)
    np.testing.assert_allclose(target, POSE + 0.5)
    torque = control.pd_torque(target, POSE, np.full(12, 1.0), gains)
    np.testing.assert_allclose(torque, 10 * 0.5 - 2 * 1.0, rtol=1e-6)
    wild = control.pd_torque(target + 100, POSE, np.zeros(12), gains)
    np.testing.assert_array_equal(wild, game.TORQUE_LIMITS)
    wild = control.pd_torque(target - 100, POSE, np.zeros(12), gains)
    np.testing.assert_array_equal(-wild, game.TORQUE_LIMITS)


def test_joint_limit_bounds_just_reach_the_farther_limit() -> None:
    pose = (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0)
    gains = control.leg_gains(pose, 1.0, [1.0] * 6, [1.0] * 6, "joint_limits")
    low, high = np.array(game.JOINT_RANGES).T
    up, down = (control.pd_target(np.full(12, sign), gains) for sign in (1.0, -1.0))
    np.testing.assert_allclose(np.minimum(up - high, low - down), 0.0, atol=1e-12)
    np.testing.assert_array_equal(gains.action_scale[:6], gains.action_scale[6:])
    half = control.leg_gains(pose, 0.5, [1.0] * 6, [1.0] * 6, "joint_limits")
    np.testing.assert_allclose(half.action_scale, 0.5 * gains.action_scale)


def test_weights_are_paid_by_the_second_and_events_by_the_occasion() -> None:
    m = reward_input()._replace(ended=np.array(True))
    weights = {"alive": 2.0, "goal": 3.0, "smoothness": -1.0, "official": 1.0}
    _, per_step = reward(m, weights)
    _, per_second = reward(m, weights, 0.02)
    events = {name for name, term in TERMS.items() if term.event}
    assert events == {"official", "score_change", "fall", "goal", "feet_air_time"}
    for name, paid in per_second.items():
        expected = per_step[name] * (1.0 if name in events else 0.02)
        np.testing.assert_allclose(paid, expected, rtol=1e-12)
