"""The same episodes in native worlds and in sai_mujoco, and what is measured in them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from booster_ray.envs.contract import StepResult
from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate import play as playing
from booster_ray.evaluate.play import Episode, Instant, Measures, play_native, play_official
from booster_ray.evaluate.target import actor_target
from booster_ray.policy.player import BadAction, Player
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from policies import actor

SEEDS = [5, 2**63 + 5]
"""The competition's are 64-bit."""
PLAYED = [("goalie", 5), *((task, seed) for task in game.TASKS[1:] for seed in SEEDS)]


@pytest.fixture(scope="module")
def native() -> list[Episode]:
    return play_native(SEEDS, flailing, keep_torques=True)


def flailing() -> Player:
    return actor_target(
        "flails", actor(("clock",)), Settings(features=("clock",)), None
    ).make_player()


def test_native_and_official_episodes_are_equal(native: list[Episode]) -> None:
    official = play_official(SEEDS, flailing, keep_torques=True)
    assert [(e.task, e.seed) for e in native] == PLAYED
    for ours, theirs in zip(native, official, strict=True):
        assert ours.torques is not None and theirs.torques is not None
        np.testing.assert_array_equal(ours.torques, theirs.torques)
        for name, value in ours.to_dict().items():
            assert value == pytest.approx(theirs.to_dict()[name], abs=1e-6), (name, ours, theirs)


def test_what_an_episode_tells(native: list[Episode]) -> None:
    for e in native:
        assert e.fallen and not e.success and 0.3 < e.seconds < 5
        assert e.score == pytest.approx(sum(e.terms.values()))
        assert 0.4 < e.height < 0.75 and 0 < e.contact < 1 and 0.01 < e.torque < 1
        assert (e.first_touch is not None) == bool(e.touched)
        assert e.torques is not None and len(e.torques) == round(e.seconds / game.TIMESTEP)


def test_a_task_may_be_played_alone(native: list[Episode]) -> None:
    (alone,) = play_native(SEEDS[:1], flailing, tasks=["obstacle"])
    assert alone == next(e for e in native if (e.task, e.seed) == ("obstacle", SEEDS[0]))


def test_a_deterministic_task_is_played_once_and_is_deterministic(native: list[Episode]) -> None:
    """Nothing that Goalie draws is seen: not in the physics, not in the observation."""
    first, second = play_native(
        SEEDS, flailing, tasks=["goalie"], stochastic=True, keep_torques=True
    )
    assert (first.seed, second.seed) == tuple(SEEDS)
    assert dataclasses.replace(second, seed=first.seed) == first == native[0]
    assert first.torques is not None and second.torques is not None
    np.testing.assert_array_equal(first.torques, second.torques)
    of = {task: [e for e in native if e.task == task] for task in game.TASKS[1:]}
    assert all(one.height != other.height for one, other in of.values())


def test_a_lost_episode_counts_as_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world that leaves no record of its episode, as one without finite physics does."""

    class Losing(NativeWorld):
        def step(self, action: np.ndarray) -> StepResult:
            result = super().step(action)
            return result._replace(episodes=[e for e in result.episodes if e["env"] != 1])

    monkeypatch.setattr(playing, "NativeWorld", Losing)
    kept, gone = play_native([5, 6], flailing, tasks=["obstacle"])
    assert not kept.lost and kept.score > -6
    assert gone.lost and (gone.score, gone.fallen, gone.seed) == (-6.0, 1.0, 6)
    assert 0.3 < gone.seconds < 5


def test_what_is_measured_step_by_step() -> None:
    measures, alive = Measures(2), np.array([True, True])
    for step, (touching, speed) in enumerate(
        [(False, 0.5), (True, 3.0), (False, 9.0), (True, 1.0)]
    ):
        now = Instant(
            touching=np.array([touching, False]),
            ball_speed=np.array([speed, np.nan]),
            goal_speed=np.array([speed, np.nan]),
            height=np.array([0.5 + step, np.nan]),
            contact=np.array([1.0, 0.5]),
            torque=np.array([0.1, 0.3]),
        )
        measures.add(now, alive)
        alive = np.array([step < 2, True])  # the first ends after its third step
    first, second = measures.of(0), measures.of(1)
    assert first == pytest.approx(
        {
            **{"seconds": 3 * 0.002, "touched": 1.0, "first_touch": 2 * 0.002},
            **{"ball_speed": 9.0, "goal_speed": 9.0, "height": 1.5, "contact": 1.0, "torque": 0.1},
        }
    )
    assert second["seconds"] == 4 * 0.002 and second["first_touch"] is None
    assert second["touched"] == 0.0 and second["ball_speed"] == 0.0 and second["height"] == 0.0
    assert second["goal_speed"] == 0.0


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (lambda n: np.zeros((n, 11)), "expected torques"),
        (lambda n: np.full((n, 12), np.nan), "not finite"),
        (lambda n: np.full((n, 12), "a"), "expected torques"),
        (lambda n: None, "expected torques"),
    ],
)
def test_what_is_no_action_is_refused(action: Any, says: str) -> None:
    for play in (play_native, play_official):
        with pytest.raises(BadAction, match=says):
            play([0], lambda: lambda observation, info: action(len(observation)))
