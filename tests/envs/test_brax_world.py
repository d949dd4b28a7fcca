"""Brax's environments as worlds: respawns, time, and going on bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from booster_ray.config import Config
from booster_ray.config.kinds import BRAX
from booster_ray.envs.brax_world import BraxDynamics
from booster_ray.envs.device import DeviceWorld
from booster_ray.envs.make import make_dynamics, make_world, sizes
from booster_ray.store import checkpoint

STEPS = 7


@pytest.fixture(scope="module")
def world() -> DeviceWorld:
    """An inverted pendulum, which falls within some ten steps, on a clock of seven."""
    return DeviceWorld(BraxDynamics("inverted_pendulum/spring", 4, episode_steps=STEPS))


def actions(steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, 4, 1)).astype(np.float32)


def test_the_names_are_brax_s_own() -> None:
    from brax import envs

    assert set(BRAX) == set(envs._envs)


def test_it_keeps_the_contract(world: DeviceWorld) -> None:
    observation = world.reset(0)
    assert observation.shape == (4, world.observation_size) and observation.dtype == np.float32
    assert len(np.unique(observation, axis=0)) == 4
    lengths, returns = np.zeros(4), np.zeros(4)
    ended = cut = 0
    for action in actions(30):
        result = world.step(action)
        assert not (result.terminated & result.truncated).any()
        over = result.terminated | result.truncated
        lengths, returns = lengths + 1, returns + result.reward
        np.testing.assert_array_equal(result.truncated, (lengths == STEPS) & ~result.terminated)
        assert [e["env"] for e in result.episodes] == np.flatnonzero(over).tolist()
        for episode in result.episodes:
            assert episode["score"] == episode["return"] == returns[int(episode["env"])]
        same = (result.observation == result.final_observation).all(axis=1)
        np.testing.assert_array_equal(same, ~over)  # fresh draws, not the first state again
        lengths[over], returns[over] = 0, 0
        ended, cut = ended + result.terminated.sum(), cut + result.truncated.sum()
    assert cut
    np.testing.assert_array_equal(world.reset(0), observation)


def test_a_restored_world_goes_on_bit_for_bit(world: DeviceWorld, tmp_path: Path) -> None:
    world.reset(1)
    for action in actions(10):
        world.step(action)
    checkpoint.save(tmp_path / "saved", {"world": world.state()})
    expected = [world.step(action) for action in actions(15)]
    world.reset(2)
    tree, _ = checkpoint.load(tmp_path / "saved")
    world.restore(tree["world"])
    for action, result in zip(actions(15), expected, strict=True):
        again = world.step(action)
        for mine, theirs in zip(again, result, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_lost_world_starts_anew(world: DeviceWorld) -> None:
    world.reset(0)
    before = world._state
    poisoned = before.now.replace(
        pipeline_state=before.now.pipeline_state.replace(
            q=before.now.pipeline_state.q.at[1].set(np.nan),
            x_i=before.now.pipeline_state.x_i.replace(
                pos=before.now.pipeline_state.x_i.pos.at[1].set(np.nan)
            ),
        )
    )
    world._state = before._replace(now=poisoned)
    result = world.step(np.zeros((4, 1), np.float32))
    assert result.terminated.tolist() == [False, True, False, False]
    assert [(e["env"], e["lost"]) for e in result.episodes] == [(1, 1)] and result.reward[1] == 0
    assert np.isfinite(list(result.episodes[0].values())).all()
    for part in (result.observation, result.final_observation, result.reward):
        assert np.isfinite(part).all()
    assert np.isfinite(world.step(np.zeros((4, 1), np.float32)).observation).all()


def test_a_state_of_another_number_of_worlds_is_refused(world: DeviceWorld) -> None:
    world.reset(0)
    other = DeviceWorld(BraxDynamics("inverted_pendulum/spring", 2))
    with pytest.raises(ValueError, match="world state has parts of shape"):
        other.restore(world.state())


def test_sizes_come_from_the_world() -> None:
    assert sizes(Config.model_validate({"world": "gym:Pendulum-v1"})) == (3, 1)
    assert sizes(Config.model_validate({"world": "brax:fast"})) == (2, 1)
    assert sizes(Config.model_validate({"world": "mjx"})) == (89, 12)
    with pytest.raises(ValueError, match="do not step on the device"):
        make_dynamics(Config())
    with pytest.raises(ValueError, match="expected a single one"):
        make_world(Config.model_validate({"world": "mjx"}), threads=1)
