"""The preprocessor's text: the rules' observation, held at 50 Hz, for every environment apart."""

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official_view import official_view
from booster_ray.policy.preprocessor import Preprocessor, render, render_action
from booster_ray.policy.sai import Rejected, load_code
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import FEATURES as TABLE
from booster_ray.soccer.observation import (
    Clock,
    Part,
    append,
    gait_phase,
    observe,
    places,
    remaining,
    size,
)

FEATURES = tuple(TABLE)
SIZE, CLOCK = size(FEATURES), places(FEATURES)["clock"]
GAINS = Settings().gains()


def made(**settings: Any) -> Any:
    return load_code(render(Settings(**settings)), "class", "preprocessor")


def world(task: str, n: int = 3, **options: Any) -> NativeWorld:
    """One that resets itself, so that its episodes begin apart."""
    return NativeWorld([task], n, GAINS, mode="newton_metres", decimation=1, **options)


def expected(frame: Frame, steps: np.ndarray) -> np.ndarray:
    """The rules' observation, previous actions aside."""
    kept = Clock(gait_phase(steps, 1.5), np.zeros((len(steps), 12)), remaining(steps))
    return append(observe(frame), frame, kept, FEATURES)


@pytest.mark.parametrize("task", game.TASKS)
def test_it_is_the_rules_observation(task: str) -> None:
    played, preprocessor = world(task), made(features=FEATURES, decimation=1)
    played.reset(3)
    rng, steps = np.random.default_rng(0), np.zeros(3, int)
    for _ in range(60):
        frame = played.frame()
        told = preprocessor.modify_state(*official_view(frame, task))
        assert told.shape == (3, SIZE + 24 + 2) and told.dtype == np.float32
        np.testing.assert_allclose(told[:, :SIZE], expected(frame, steps), atol=1e-6)
        joints = np.concatenate([frame.joint_pos, frame.joint_vel], axis=1, dtype=np.float32)
        np.testing.assert_array_equal(told[:, SIZE : SIZE + 24], joints)
        played.step(rng.uniform(-0.5, 0.5, (3, 12)) * game.TORQUE_LIMITS)
        steps += 1
    played.close()


def test_the_observation_is_held_and_each_environment_has_its_own_clock() -> None:
    task, n = "goalie", 3
    played, preprocessor = world(task, n), made(features=FEATURES, decimation=10)
    played.reset(0)
    # As if they had begun at other times: each is put back to its start once.
    start = official_view(played.frame(), task)
    begins = {0: [0, 34], 1: [0, 61], 2: [0]}
    rng, steps, held = np.random.default_rng(0), np.zeros(n, int), np.zeros((n, SIZE))
    for step in range(80):
        frame = played.frame()
        official, info = official_view(frame, task)
        wanted = expected(frame, steps)
        first = np.array([step in begins[i] for i in range(n)])
        steps[first] = 0
        for i in np.flatnonzero(first):
            official[i] = start[0][i]
            info = {k: np.where(np.arange(n).reshape(-1, *[1] * (v.ndim - 1)) == i,
                                start[1][k], v) for k, v in info.items()}  # fmt: skip
        told = preprocessor.modify_state(official, info)
        acts = steps % 10 == 0
        assert (told[:, -2] == first).all() and (told[:, -1] == acts).all(), step
        fresh = acts & ~first  # what a reset tells, another test compares
        np.testing.assert_allclose(told[fresh, CLOCK], wanted[fresh, CLOCK], atol=1e-6)
        np.testing.assert_array_equal(told[~acts, :SIZE], held[~acts])
        np.testing.assert_array_equal(told[:, SIZE : SIZE + 12], official[:, :12])
        held = told[:, :SIZE]
        played.step(rng.uniform(-0.3, 0.3, (n, 12)) * game.TORQUE_LIMITS)
        steps += 1
    played.close()


def test_the_gait_clock_goes_on_through_the_worlds_own_resets() -> None:
    played, preprocessor = world("goalie", 2, episode_steps=25), made(features=("clock",))
    played.reset(0)
    for step in range(60):
        told = preprocessor.modify_state(*official_view(played.frame(), "goalie"))
        since = step % 25
        angle = 2 * np.pi * 1.5 * game.TIMESTEP * (since - since % 10)
        np.testing.assert_allclose(told[:, 89], np.sin(angle), atol=1e-6, err_msg=f"step {step}")
        played.step(np.ones((2, 12)))
    played.close()


def test_a_state_without_a_leading_dimension() -> None:
    played = world("obstacle", 1)
    played.reset(0)
    observation, info = official_view(played.frame(), "obstacle")
    played.close()
    batched = made(features=FEATURES).modify_state(observation, info)
    single = {name: value[0] for name, value in info.items()}
    for state in (observation, observation[0]):
        alone = made(features=FEATURES).modify_state(state, single)
        np.testing.assert_array_equal(alone, batched)
    # A batch of another size begins anew.
    preprocessor = made(features=FEATURES)
    preprocessor.modify_state(observation, info)
    doubled = {name: np.concatenate([value] * 2) for name, value in info.items()}
    assert preprocessor.modify_state(np.concatenate([observation] * 2), doubled).shape[0] == 2
    np.testing.assert_array_equal(preprocessor.steps, [0, 0])


def test_an_environment_that_was_lost_leaves_the_others_alone() -> None:
    played, preprocessor = world("goalie", 2), made(features=FEATURES, decimation=1)
    played.reset(0)
    preprocessor.modify_state(*official_view(played.frame(), "goalie"))
    played.step(np.ones((2, 12)))
    observation, info = official_view(played.frame(), "goalie")
    sound = made(features=FEATURES, decimation=1)
    sound.modify_state(*official_view(played.frame(), "goalie"))
    broken = {k: v.astype(float) if v.dtype.kind == "f" else v for k, v in info.items()}
    for value in (*broken.values(), observation):
        if value.dtype.kind == "f" and value.ndim == 2:
            value[0] = np.nan
    told = preprocessor.modify_state(observation, broken)
    assert np.isnan(told[0, :89]).any() and np.isfinite(told[1]).all()
    played.close()


def test_a_single_task_benchmark_is_refused() -> None:
    played = world("goalie", 1)
    played.reset(0)
    observation, info = official_view(played.frame(), "goalie")
    played.close()
    with pytest.raises(ValueError, match="task_index has 1 numbers, expected 3"):
        made().modify_state(observation, info | {"task_index": np.ones((1, 1))})


def by_hand(frame: Frame, _: Clock) -> Any:
    return np.zeros((len(frame.task), 1))


def at_the_feet(frame: Frame, _: Clock) -> Any:
    return frame.foot_pos[..., 0, 2:]


def named_twice() -> Any:
    def egocentric(frame: Frame, _: Clock) -> Any:
        return frame.imu_pos[..., 2:]

    return egocentric


def with_a_module(frame: Frame, _: Clock) -> Any:
    return frame.imu_pos[..., 2:] * math.pi


@pytest.mark.parametrize(
    ("compute", "refused"),
    [
        (lambda frame, _: frame.imu_pos, "lambda"),
        (named_twice(), "two things named egocentric"),
        (with_a_module, "math, a module, is nothing"),
        (at_the_feet, "official infos do not give foot_pos"),
    ],
)
def test_parts_that_no_package_can_compute(
    compute: Any, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = world("goalie", 1)
    played.reset(0)
    view = official_view(played.frame(), "goalie")
    played.close()
    monkeypatch.setitem(TABLE, "new", Part(by_hand, ((0, 1),), 0.0))
    assert made(features=("new",)).modify_state(*view).shape == (1, 90 + 24)
    monkeypatch.setitem(TABLE, "new", Part(compute, ((0, 1),), 0.0))
    with pytest.raises((ValueError, AttributeError), match=refused):
        made(features=("egocentric", "new")).modify_state(*view)


def test_the_text_is_the_same_in_every_process() -> None:
    command = "from booster_ray.policy.preprocessor import *; print(render(Settings(%r)), end='')"
    texts = {
        subprocess.run(
            [sys.executable, "-c", command % (FEATURES,)],
            env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert texts == {render(Settings(features=FEATURES))}


def test_the_text_stands_alone() -> None:
    text = render(Settings(features=("clock",), gait_frequency=2.2, decimation=5))
    assert text.startswith("class Preprocessor") and "import" not in text
    preprocessor = load_code(text, "class", "preprocessor")
    assert preprocessor.FEATURES == ("clock",) and preprocessor.DECIMATION == 5
    assert preprocessor.GAIT_FREQUENCY == 2.2
    assert Preprocessor.FEATURES == () and Preprocessor.DECIMATION == 10
    action = load_code(render_action(), "function", "action_function")
    torque = np.array([[1e3] * 12, [np.nan] * 12], np.float32)
    np.testing.assert_array_equal(action(torque), [game.TORQUE_LIMITS, np.zeros(12)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "has no class"),
        ("def f(x):\n    return x\n", "begins with the function f"),
        ("class A:\n    def __init__(self):\n        math.pi\n", "NameError.*strips imports"),
        ("import math\nclass A:\n    pi = math.pi\n", "line 2.*NameError|NameError"),
        ("class A\n", "SyntaxError"),
        ("class A:\n    def __init__(self, n):\n        pass\n", "TypeError"),
    ],
)
def test_text_that_the_loader_would_refuse(text: str, says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        load_code(text, "class", "p.py")
    assert str(refused.value).startswith("p.py: ") and "\n" not in str(refused.value)
