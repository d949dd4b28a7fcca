"""Training in sai_mujoco itself gives what the native worlds give."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from envs.record import GAINS

from booster_ray.config import Config, ConfigError, load
from booster_ray.envs import official_world
from booster_ray.envs.contract import Scalable
from booster_ray.envs.make import make_world
from booster_ray.envs.official_world import OfficialWorld, WorldsDisagree
from booster_ray.soccer import game
from booster_ray.train.runner import Runner

WEIGHTS = {"alive": 1.0, "approach": 0.5, "smoothness": -0.1}


@pytest.fixture(scope="module")
def world() -> Iterator[OfficialWorld]:
    made = OfficialWorld(game.TASKS, 3, GAINS, weights=WEIGHTS, features=["egocentric"])
    yield made
    made.close()


def played(world: Any, seed: int, steps: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    told = [world.reset(seed)]
    for _ in range(steps):
        told.append(world.step(rng.uniform(-1, 1, (3, 12))))
    return told


def test_episodes_end_and_begin_as_the_package_says(world: OfficialWorld) -> None:
    """Everyone falls within 90 steps; every step compares the package with the native worlds."""
    first, *results = played(world, 0, 90)
    assert first.shape == (3, 98) and first.dtype == np.float32
    assert world.observation_size == 98 and isinstance(world, Scalable)
    ended = [(r, i) for r in results for i in np.flatnonzero(r.terminated)]
    assert {int(world.task[i]) for _, i in ended} == {0, 1, 2}
    for result, i in ended:
        record = next(e for e in result.episodes if e["env"] == i)
        assert record["fallen"] and record["score"] < 0
        # A new episode stands straight again, and its features are its own.
        assert result.observation[i, :24].max() == 0 and abs(result.observation[i, 26] + 1) < 0.01
        assert not np.array_equal(result.observation[i, 89:], result.final_observation[i, 89:])
    assert any(r.reward.any() for r in results)


def test_equal_seeds_give_equal_episodes(world: OfficialWorld) -> None:
    for one, other in zip(played(world, 3, 70), played(world, 3, 70), strict=True):
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_worlds_that_part_are_told(world: OfficialWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.reset(0)
    world._envs[1].unwrapped.sim.data.qvel[-1] += 0.5
    with pytest.raises(WorldsDisagree, match=r"obstacle: sai_mujoco's observation is \d"):
        world.step(np.zeros((3, 12)))
    world.reset(0)
    monkeypatch.setattr(official_world, "TOLERANCE", 0.0)
    with pytest.raises(WorldsDisagree):
        world.step(np.zeros((3, 12)))


def configured(*overrides: str) -> Config:
    tiny = ["world=official", "world.num_envs=3", "ddpg.batch_size=6", "ddpg.learning_starts=6"]
    small = ["ddpg.critic_hidden=[8]", "sac.actor_hidden=[8]", "evaluation.episodes_per_task=1"]
    budget = ["training={env_steps: 30, report_every: 15}", "evaluation.every=30"]
    return load(
        "tune_configs/default.yaml", ["stage=finetune", *tiny, *small, *budget, *overrides]
    ).base()


def test_a_config_finetunes_in_it() -> None:
    training = Runner(configured("rewards.official=1.0"))
    collector: Any = training.collector
    assert isinstance(collector.own._world, OfficialWorld)
    reports = [report.metrics for report in training]
    tree = training._capture()
    training.close()
    assert [r["env_steps"] for r in reports] == [0, 15, 30]
    assert "critic_loss" in reports[-1] and "score" in reports[-1]
    assert tree["team"]["0"]["world"] == {}
    # Restored, its episodes begin anew.
    again = Runner(configured("rewards.official=1.0", "training.env_steps=45"), tree)
    assert [report.metrics["env_steps"] for report in again] == [45]
    again.close()


def test_nothing_is_randomized_there() -> None:
    with pytest.raises(ConfigError, match=r"level 1 with world\.kind official, expected 0"):
        configured("randomization.level=1")
    with pytest.raises(ConfigError, match=r"near_ball 0\.5 with world\.kind official, expected 0"):
        configured("world.near_ball=0.5")
    world = make_world(configured("world.num_envs=3"), threads=1)
    with pytest.raises(ValueError, match="cannot be restored"):
        world.restore({})
    world.close()
