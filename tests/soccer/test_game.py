"""The game's constants against the installed package."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
import sai_mujoco
import yaml
from sai_mujoco.robots.t1.t1_v1 import LowerT1_v1

from booster_ray.envs.model import soccer_model
from booster_ray.soccer import game, spawn

PACKAGE = Path(sai_mujoco.__file__).parent


@pytest.fixture(scope="module")
def field() -> dict:
    return yaml.safe_load((PACKAGE / "envs/football/v0/config.yaml").read_text())


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return soccer_model("kick_to_target").model


def test_field(field: dict) -> None:
    robot = field["env_parameters"]["robot"]
    assert robot["field"] == {"length": game.FIELD_HALF_LENGTH, "width": game.FIELD_HALF_WIDTH}
    goal = {"width": game.GOAL_HALF_WIDTH, "height": game.GOAL_HEIGHT, "depth": game.GOAL_DEPTH}
    assert robot["goal"] == goal
    home = field["team_parameters"][0]
    assert home["robot"]["goal"]["centre"] == game.PENALTY_BALL_X
    assert home["rotation"] == [0, 0, game.PENALTY_YAW]
    assert home["direction"][0] * 2 == game.PENALTY_ROBOT_OFFSET


@pytest.mark.parametrize("task", game.TASKS)
def test_time_limit(task: str) -> None:
    assert gymnasium.spec(game.ENV_IDS[task]).max_episode_steps == game.EPISODE_STEPS


def test_torque_limits() -> None:
    robot = LowerT1_v1(idn=0, control_freq=500, np_random=np.random.default_rng(0), name="t1")
    legs = [robot.parts[f"{side}_leg"].controller_config for side in ("left", "right")]
    for sign, key in ((1, "output_max"), (-1, "output_min")):
        limits = np.concatenate([leg[key] for leg in legs])
        assert limits.tolist() == [sign * limit for limit in game.TORQUE_LIMITS]
    assert LowerT1_v1.standing_height[0] == game.FALL_HEIGHT


def test_joints(model: mujoco.MjModel) -> None:
    assert model.opt.timestep == game.TIMESTEP
    joints = [model.joint(f"robot_0:{name}") for name in game.JOINTS]
    assert [j.qposadr[0] for j in joints] == list(range(model.nq - 12, model.nq))
    np.testing.assert_allclose([j.range for j in joints], game.JOINT_RANGES)


def test_goals_stand_on_the_lines(model: mujoco.MjModel) -> None:
    # The observation takes both goals at the middle of the field's short sides.
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for name, sign in (("goal_post_south", -1), ("goal_post_north", 1)):
        expected = [sign * game.FIELD_HALF_LENGTH, 0, 0]
        np.testing.assert_allclose(data.site(name).xpos, expected, atol=1e-9)


def test_lanes() -> None:
    # _sample_target: eight sections of the goal's width less 4 cm, every other border.
    half = game.GOAL_HALF_WIDTH - 0.04
    np.testing.assert_allclose(spawn.LANES, np.linspace(-half, half, 9)[1::2])
