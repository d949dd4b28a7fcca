"""Gate 1 on the committed recordings, whose behaviours are many, and on those of the command.

``worlds/record.py`` says how the committed states came about.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import pytest
from envs.record import RECORDED

from booster_ray.evaluate.gates import observation
from booster_ray.evaluate.gates.observation import (
    gate1,
    largest,
    matrix,
    measure,
    preprocessed,
    turn,
)
from booster_ray.evaluate.gates.states import record
from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import observe
from booster_ray.soccer.scoring import raw_terms, terminated

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
    yield Recorded(task, data, observation.replayed(data, task).frame)


def test_there_are_enough_states(recorded: Recorded) -> None:
    data = recorded.data
    assert len(np.unique(data["qpos"], axis=0)) >= 100
    assert len(set(data["behaviour"])) >= 14 and "walking" in data["behaviour"]
    assert 10 < data["terminated"].sum() < len(data["terminated"]) / 2
    assert sum(f.stat().st_size for f in RECORDED.iterdir()) < 1.5e6
    assert data["info:success"].any()


def test_every_way_to_compute_it(recorded: Recorded) -> None:
    found = measure(recorded.data, recorded.task)
    assert found["states"] >= 100 and found["turns"] >= 10
    for name in ("rules", "world", "package", "orientation"):
        assert found[name] < 1e-6, name


def test_jax_observation(recorded: Recorded) -> None:
    frame = jax.tree.map(
        lambda part: jax.numpy.asarray(part, np.float32 if part.dtype.kind == "f" else part.dtype),
        recorded.frame,
    )
    ours = np.asarray(jax.jit(observe)(frame))
    assert ours.shape == (len(recorded.data["step"]), 89) and ours.dtype == np.float32
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
        turned = turn(angles)
        np.testing.assert_allclose(matrix(xyzw[None])[0], turned, atol=1e-6)
        np.testing.assert_allclose(matrix(quat[[1, 2, 3, 0]][None])[0], turned, atol=1e-12)
        np.testing.assert_allclose(seen[24:27], turned.T @ [0, 0, -1], atol=1e-6)
        # Read in another order it would be another rotation.
        assert np.abs(matrix(quat[None])[0] - turned).max() > 0.05


def test_the_gate_passes() -> None:
    verdict = gate1()
    assert verdict.passed and not verdict.advice, verdict.rows
    for task in game.TASKS:
        assert verdict.numbers["tasks"][task]["states"] >= 100
        assert verdict.numbers["tasks"][task]["turns"] >= 10


def test_the_gate_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    data = record("goalie")
    for name, change in {
        "info:robot_quat": lambda quat: quat[:, [3, 0, 1, 2]],  # the other convention
        "info:ball_xpos_rel_robot": lambda ball: ball + 1e-5,
        "info:robot_gyro": lambda gyro: gyro[::-1],
    }.items():
        found = measure(data | {name: change(data[name])}, "goalie")
        assert found["rules"] > 1e-6 and found["world"] > 1e-6, name
    fine = {"states": 140, "turns": 20, "rules": 1e-7, "world": 1e-7, "package": 1e-7}
    monkeypatch.setattr(observation, "record", lambda task: data)
    for bad in ({"world": 2e-6}, {"states": 99}, {"turns": 9}, {"package": float("inf")}):
        found = fine | {"orientation": 1e-7} | bad
        monkeypatch.setattr(observation, "measure", lambda data, task, found=found: found)
        verdict = gate1()
        assert not verdict.passed and verdict.advice, bad
