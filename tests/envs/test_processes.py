"""Environments in processes: the same numbers, and what becomes of one that crashes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from envs.batches import assert_equal

from booster_ray.config import ConfigError, load
from booster_ray.envs.contract import WorldError
from booster_ray.envs.gym_world import GymWorld
from booster_ray.envs.processes import ProcessWorld, dealt
from booster_ray.store import checkpoint
from booster_ray.train.preflight import begin

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
SEED, ENV = 3, "misbehaving:Misbehaving-v0"


def divided(env_id: str, n: int, processes: int, **kwargs: object) -> ProcessWorld:
    return ProcessWorld(f"gym:{env_id}", partial(GymWorld, env_id, kwargs=kwargs), n, processes)


def test_places_are_dealt_back_and_forth() -> None:
    assert [hand.tolist() for hand in dealt(5, 2)] == [[0, 3, 4], [1, 2]]
    assert [hand.tolist() for hand in dealt(2, 8)] == [[0], [1]]
    assert [len(hand) for hand in dealt(7, 3)] == [3, 2, 2]


def test_three_processes_play_what_one_does_and_go_on_from_its_state(tmp_path: Path) -> None:
    whole, parts = GymWorld(ENV, 5), divided(ENV, 5, 3)
    np.testing.assert_array_equal(whole.reset(SEED), parts.reset(SEED))
    assert (parts.observation_size, parts.action_size) == (2, 1)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 5, 1)).astype(np.float32)
    results = [whole.step(action) for action in actions[:10]]
    for action, result in zip(actions, results, strict=False):
        assert_equal(parts.step(action), result)
    assert any(len(result.episodes) > 1 for result in results)
    # A state goes from one to the other, both ways.
    checkpoint.save(tmp_path / "saved", {"world": parts.state()})
    saved = checkpoint.load(tmp_path / "saved")[0]["world"]
    again, fewer = GymWorld(ENV, 5), divided(ENV, 5, 2)
    again.restore(saved)
    fewer.restore(whole.state())
    for action in actions[10:]:
        result = whole.step(action)
        for other in (parts, again, fewer):
            assert_equal(other.step(action), result)
    with pytest.raises(ValueError, match="5 copies; here are 4"):
        divided(ENV, 4, 1).restore(saved)
    for world in (parts, fewer):
        world.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", r"step raises KeyError: 'level' \(misbehaving.py:"),
        ("leaves", r"its process died \(exit code 3\)"),
        ("dies", r"its process died \(SIGKILL\)"),
    ],
)
def test_what_an_environment_does_to_its_process_is_one_line(how: str, said: str) -> None:
    world = divided(ENV, 2, 1, how=how)
    world.reset(SEED)
    for _ in range(3):
        world.step(np.zeros((2, 1)))
    with pytest.raises(WorldError, match=f"^gym:{ENV}: {said}") as caught:
        world.step(np.zeros((2, 1)))
    assert "\n" not in str(caught.value)
    world.close()


def test_bad_input_is_refused_on_either_side() -> None:
    with pytest.raises(ValueError, match="gymnasium cannot make 'Nothing-v0'"):
        divided("Nothing-v0", 2, 2)
    world = divided(ENV, 2, 2)
    world.reset(SEED)
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(2, 1\)"):
        world.step(np.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        world.step(np.full((2, 1), np.nan))
    world.close()


def test_an_environment_that_crashes_at_once_is_refused_before_anything_begins(
    tmp_path: Path,
) -> None:
    kwargs = "{how: dies, after: 0}"
    wanted = [f"world={{kind: gym:{ENV}, processes: 1, kwargs: {kwargs}}}"]
    with pytest.raises(ConfigError, match=r"world.kind: gym:mis.*its process died \(SIGKILL\)"):
        begin(load(DEBUG, [*wanted, f"storage={tmp_path / 'runs'}"]))
    assert not (tmp_path / "runs").exists()
