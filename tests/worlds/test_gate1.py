"""Gate 1: our observation is the competition preprocessor's, on recorded official states.

The preprocessor (ArenaX-Labs/booster_soccer_showdown, training_scripts/main.py) is derived here
again, from the recorded info arrays alone. Ours comes from a native world that is put into the
recorded state before the step and takes the step itself, so the 2 ms lag is part of the test.
``record.py`` says how the states came about.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import pytest
from worlds.record import GAINS, RECORDED

from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import observe
from booster_ray.soccer.scoring import raw_terms, terminated
from booster_ray.worlds.native import NativeWorld

NUMPY_TOLERANCE = 1e-6
JAX_TOLERANCE = 1e-5


class Recorded(NamedTuple):
    """A task's recorded steps, and our frames of the same steps."""

    task: str
    data: dict[str, np.ndarray]
    """Arrays of the file, (N, ...)."""
    frame: Frame
    """(N, ...)."""


@pytest.fixture(scope="module", params=game.TASKS)
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorded]:
    task = request.param
    with np.load(RECORDED / f"{task}.npz") as file:
        data = dict(file)
    world = NativeWorld([task], 1, GAINS, mode="newton_metres", decimation=1, auto_reset=False)
    frames = [step_from(world, data, i) for i in range(len(data["step"]))]
    yield Recorded(task, data, Frame(*(np.stack(parts) for parts in zip(*frames, strict=True))))


def step_from(world: NativeWorld, data: dict[str, np.ndarray], i: int) -> Frame:
    """Take recorded step ``i`` and return its frame."""
    world.reset(0, env_seeds=[int(data["seed"][i])])
    state = world._slots[0]
    for name in ("qpos", "qvel", "qacc_warmstart"):
        getattr(state, name)[:] = data[name][i]
    world._steps[0], world._hits[0] = data["step"][i], data["hits"][i]
    world._touching[0] = data["touching"][i]
    world.step(data["torque"][i][None])
    return Frame(*(part[0] for part in world.frame()))


def matrix(quat_xyzw: np.ndarray) -> np.ndarray:
    """Rotation matrices, body to world, of the official quaternions. (N, 4) → (N, 3, 3)."""
    x, y, z, w = np.moveaxis(quat_xyzw.astype(float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


PREPROCESSOR = (
    *("robot_gyro", "robot_accelerometer", "robot_velocimeter"),
    *("goal_team_0_rel_robot", "goal_team_1_rel_robot"),
    *("goal_team_0_rel_ball", "goal_team_1_rel_ball"),
    *("ball_xpos_rel_robot", "ball_velp_rel_robot", "ball_velr_rel_robot"),
    "player_team",
    *("goalkeeper_team_0_xpos_rel_robot", "goalkeeper_team_0_velp_rel_robot"),
    *("goalkeeper_team_1_xpos_rel_robot", "goalkeeper_team_1_velp_rel_robot"),
    *("target_xpos_rel_robot", "target_velp_rel_robot"),
    "defender_xpos",
)
"""What follows joints and gravity, before the task's one-hot."""


def preprocessed(data: dict[str, np.ndarray], task: str) -> np.ndarray:
    """The competition's definition. (N, 89) float64."""
    down_in_body = -matrix(data["info:robot_quat"])[:, 2]
    one_hot = np.tile(np.array(game.TASKS) == task, (len(down_in_body), 1))
    told = [data[f"info:{name}"] for name in PREPROCESSOR]
    return np.concatenate([data["observation"][:, :24], down_in_body, *told, one_hot], axis=1)


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    # The observation is float32: beyond 16, its last bit alone is more than 1e-6.
    return float(np.max(np.abs(ours - theirs.astype(np.float32))))


def test_there_are_enough_states(recorded: Recorded) -> None:
    data = recorded.data
    assert len(np.unique(data["qpos"], axis=0)) >= 100
    assert len(set(data["behaviour"])) >= 14 and "walking" in data["behaviour"]
    assert 10 < data["terminated"].sum() < len(data["terminated"]) / 2
    assert sum(f.stat().st_size for f in RECORDED.iterdir()) < 1.5e6
    assert data["info:success"].any()


def test_numpy_observation(recorded: Recorded) -> None:
    ours = observe(recorded.frame)
    assert ours.shape == (len(recorded.data["step"]), 89) and ours.dtype == np.float32
    assert largest(ours, preprocessed(recorded.data, recorded.task)) <= NUMPY_TOLERANCE


def test_jax_observation(recorded: Recorded) -> None:
    frame = jax.tree.map(
        lambda part: jax.numpy.asarray(part, np.float32 if part.dtype.kind == "f" else part.dtype),
        recorded.frame,
    )
    ours = np.asarray(jax.jit(observe)(frame))
    assert ours.dtype == np.float32
    assert largest(ours, preprocessed(recorded.data, recorded.task)) <= JAX_TOLERANCE


def test_terms_and_termination(recorded: Recorded) -> None:
    ours = raw_terms(recorded.frame)
    for key, theirs in recorded.data.items():
        if key.startswith("term:"):
            name = key.removeprefix("term:")
            np.testing.assert_allclose(ours[name], theirs, rtol=0, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(terminated(recorded.frame), recorded.data["terminated"])


def test_known_rotations_prove_the_quaternion_order(recorded: Recorded) -> None:
    data, frame = recorded.data, recorded.frame
    known = np.isfinite(data["rotation"][:, 0])
    assert known.sum() >= 10
    ours, told = frame.imu_quat[known], data["info:robot_quat"][known]
    for angles, quat, xyzw, seen in zip(
        data["rotation"][known], ours, told, observe(frame)[known], strict=True
    ):
        turned = turns(angles)
        np.testing.assert_allclose(matrix(xyzw[None])[0], turned, atol=1e-6)
        np.testing.assert_allclose(matrix(quat[[1, 2, 3, 0]][None])[0], turned, atol=1e-12)
        np.testing.assert_allclose(seen[24:27], turned.T @ [0, 0, -1], atol=1e-6)
        # Read in another order it would be another rotation.
        assert np.abs(matrix(quat[None])[0] - turned).max() > 0.05


def turns(angles: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) of turns about the world's x, then y, then z by ``angles`` (3,) rad."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
