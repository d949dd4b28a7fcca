"""Environments of gymnasium as worlds: contract, scaling, and going on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from booster_ray import checkpoint
from booster_ray.worlds.contract import StepResult
from booster_ray.worlds.gym_world import GymWorld

SEED = 3


def actions(world: GymWorld, steps: int) -> np.ndarray:
    shape = steps, world.num_envs, world.action_size
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def assert_equal(one: StepResult, other: StepResult) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_it_keeps_the_contract() -> None:
    world = GymWorld("Pendulum-v1", 3)
    observation = world.reset(SEED)
    assert observation.shape == (3, world.observation_size) and observation.dtype == np.float32
    assert world.action_size == 1 and world.task.tolist() == [0, 0, 0]
    assert len(np.unique(observation, axis=0)) == 3  # each copy has a stream of its own
    for step, action in enumerate(actions(world, 200)):
        result = world.step(action)
        for part in (result.observation, result.final_observation):
            assert part.shape == (3, 3) and part.dtype == np.float32
        assert result.reward.dtype == np.float32 and not result.terminated.any()
        assert result.truncated.all() == (step == 199)
    assert [e["env"] for e in result.episodes] == [0, 1, 2]
    assert all(e["seconds"] == pytest.approx(10.0) for e in result.episodes)
    assert all(e["score"] == e["return"] < 0 for e in result.episodes)
    # The last observation is kept beside the first of the next episode.
    assert not (result.observation == result.final_observation).all(axis=1).any()
    np.testing.assert_array_equal(world.reset(SEED), observation)
    assert not np.array_equal(world.reset(SEED + 1), observation)
    world.close()


def test_it_plays_what_gymnasium_plays() -> None:
    """One copy beside the environment itself; unit actions span the torque of ±2 N·m."""
    world, env = GymWorld("Pendulum-v1", 1), gymnasium.make("Pendulum-v1")
    first = world.reset(SEED)
    seed = int(np.random.SeedSequence(SEED).generate_state(1)[0])
    np.testing.assert_allclose(first[0], env.reset(seed=seed)[0])
    for action in actions(world, 50):
        result = world.step(action)
        seen, reward, *_ = env.step(2.0 * action[0])
        np.testing.assert_allclose(result.observation[0], seen, rtol=1e-6)
        np.testing.assert_allclose(result.reward[0], reward, rtol=1e-6)


@pytest.mark.parametrize(
    "env_id", ["Pendulum-v1", "MountainCarContinuous-v0", "Hopper-v5", "Ant-v5", "Humanoid-v5"]
)
def test_a_restored_world_goes_on_bit_for_bit(env_id: str, tmp_path: Path) -> None:
    """MuJoCo environments read forces and positions between steps: these must come back too."""
    world = GymWorld(env_id, 2)
    world.reset(SEED)
    played = actions(world, 120)
    for action in played[:50]:
        world.step(action)
    checkpoint.save(tmp_path / "saved", {"world": world.state()})
    expected = [world.step(action) for action in played[50:]]
    tree, _ = checkpoint.load(tmp_path / "saved")
    assert len(list((tmp_path / "saved").iterdir())) < 12  # stacked, not a file for each copy
    other = GymWorld(env_id, 2)
    other.restore(tree["world"])
    for action, result in zip(played[50:], expected, strict=True):
        assert_equal(other.step(action), result)
    if env_id in ("Hopper-v5", "Humanoid-v5"):
        assert any(result.episodes for result in expected)  # resets go on as they would have


def test_a_state_that_does_not_fit_is_refused() -> None:
    world, more = GymWorld("Pendulum-v1", 2), GymWorld("Pendulum-v1", 3)
    world.reset(SEED)
    with pytest.raises(ValueError, match="2 copies; here are 3"):
        more.restore(world.state())
    hopper, ant = GymWorld("Hopper-v5", 2), GymWorld("Ant-v5", 2)
    hopper.reset(SEED)
    with pytest.raises(ValueError, match="MuJoCo data"):
        ant.restore(hopper.state())


class Opaque(gymnasium.Env[np.ndarray, np.ndarray]):
    """Keeps its state where nobody can read it."""

    observation_space = Box(-1.0, 1.0, (2, 2), np.float32)
    action_space = Box(0.0, 4.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.hidden = iter(range(100))
        return np.zeros((2, 2), np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        return np.eye(2, dtype=np.float32), float(action[0]), next(self.hidden) == 3, False, {}


gymnasium.register("Opaque-v0", Opaque)


def test_what_cannot_be_read_has_no_state() -> None:
    world = GymWorld("Opaque-v0", 2)
    assert world.observation_size == 4  # flattened
    world.reset(SEED)
    result = world.step(np.array([[-1.0], [1.0]]))
    assert result.reward.tolist() == [0.0, 4.0]
    assert world.state() == {}


@pytest.mark.parametrize(
    ("env_id", "wrong"),
    [
        ("CartPole-v1", "actions from a Discrete; expected a bounded Box"),
        ("FrozenLake-v1", "seen through a Discrete; expected a Box"),
        ("Nothing-v0", "gymnasium cannot make 'Nothing-v0'"),
        ("no.such.module:Nothing-v0", "gymnasium cannot make"),
    ],
)
def test_environments_that_no_gaussian_serves_are_refused(env_id: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        GymWorld(env_id, 1)


def test_bad_actions_are_refused() -> None:
    world = GymWorld("Pendulum-v1", 2)
    world.reset(SEED)
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(2, 1\)"):
        world.step(np.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        world.step(np.full((2, 1), np.nan))
