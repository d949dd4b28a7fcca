import mujoco
import numpy as np
import pytest

from booster_ray.envs import model as worlds_model
from booster_ray.envs.model import SoccerModel, soccer_model
from booster_ray.envs.official import make_official
from booster_ray.soccer import game


@pytest.fixture(scope="module", params=game.TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(task: str) -> mujoco.MjModel:
    """The official model as it is."""
    env = make_official(task)
    model = env.unwrapped.mjcf_model.copy().compile()
    env.close()
    return model


def test_stripping_leaves_the_trajectory(task: str, whole: mujoco.MjModel) -> None:
    parts = soccer_model(task)
    rng = np.random.default_rng(0)
    datas = [mujoco.MjData(model) for model in (whole, parts.model)]
    for data in datas:
        data.qpos[0:2] = data.qpos[parts.root_qpos :][:2] + np.array([0.3, 0.1])
    for _ in range(300):
        torque = 20 * rng.standard_normal(12)
        for data, model in zip(datas, (whole, parts.model), strict=True):
            data.ctrl[-12:] = torque
            mujoco.mj_step(model, data)
    one, two = datas
    assert one.ncon == two.ncon > 0
    for name in ("qpos", "qvel", "qacc_warmstart"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


def test_stripping_is_worth_it(task: str, whole: mujoco.MjModel) -> None:
    # Measured: 58.7 MB become 0.9, 8.2 (the panels' mesh collides) and 0.5.
    limit = {"goalie": 1e6, "obstacle": 9e6, "kick_to_target": 1e6}[task]
    assert soccer_model(task).model.nbuffer < limit < whole.nbuffer / 6


def test_parts(task: str) -> None:
    parts, model = soccer_model(task), soccer_model(task).model
    names = [model.body(i).name for i in parts.robot_bodies]
    assert len(names) == 13 and all(name.startswith("robot_0:") for name in names)
    assert (model.body_mass[parts.robot_bodies] > 0).all()
    assert model.body_mass[parts.robot_bodies].sum() == pytest.approx(31.6, abs=0.05)  # SPEC 2
    assert model.body_mass[parts.ball_body] == pytest.approx(0.452, abs=0.001)
    assert model.geom_bodyid[parts.ball_geom] == parts.ball_body
    feet = [model.body(model.geom_bodyid[geom]).name for geom in parts.foot_geoms]
    assert feet == ["robot_0:left_foot_link", "robot_0:right_foot_link"]
    assert parts.root_qpos + 19 == model.nq and parts.root_qvel + 18 == model.nv
    assert len(parts.defender_geoms) == (3 if task == "obstacle" else 0)
    assert (parts.target_site == -1) == (task == "goalie")


def test_sensors_sit_alike_in_every_task() -> None:
    one, *others = (soccer_model(task) for task in game.TASKS)
    assert all(other.sensors == one.sensors for other in others)


def test_a_lost_state_is_not_hidden(task: str) -> None:
    parts: SoccerModel = soccer_model(task)
    assert parts.model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET


def test_models_are_compiled_once(task: str) -> None:
    assert soccer_model(task) is soccer_model(task)
    with pytest.raises(KeyError):
        worlds_model.soccer_model("golf")
