"""Meta-World's tasks as one world; skipped where the package is not installed."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from envs.batches import actions, assert_equal

pytest.importorskip("metaworld", reason="Meta-World is not installed (extra metaworld)")

from booster_ray.config import Config
from booster_ray.config.kinds import METAWORLD
from booster_ray.envs import metaworld_world
from booster_ray.envs.make import make_world
from booster_ray.envs.metaworld_world import GOALS, MetaWorld
from booster_ray.envs.processes import ProcessWorld
from booster_ray.store import checkpoint

SEED, SEVEN = 3, 7
THREE = ("reach-v3", "door-open-v3", "window-close-v3")


def shortened(world: MetaWorld, steps: int) -> MetaWorld:
    """With episodes of so many steps."""
    for env in world._envs:
        env.unwrapped.max_path_length = steps
    return world


def test_the_tasks_are_metaworlds_own() -> None:
    from metaworld import env_dict

    for name, tasks in METAWORLD.items():
        assert tuple(getattr(env_dict, f"{name}_V3")) == tasks


def test_it_keeps_the_contract() -> None:
    world = shortened(MetaWorld(THREE, SEVEN, 4), 5)
    assert (world.observation_size, world.action_size) == (39 + 3, 4)
    assert world.task.tolist() == [0, 1, 2, 0]
    first = world.reset(SEED)
    assert first.dtype == np.float32 and first[:, 39:].argmax(axis=1).tolist() == [0, 1, 2, 0]
    results = [world.step(action) for action in actions(world, 5)]
    # Time ends episodes, and nothing else does.
    assert [r.truncated.all() for r in results] == [False] * 4 + [True]
    assert not any(r.terminated.any() for r in results)
    assert not np.array_equal(results[-1].observation, results[-1].final_observation)
    records = results[-1].episodes
    assert [r["task"] for r in records] == [0, 1, 2, 0]
    assert all(r["score"] == r["success"] in (0.0, 1.0) for r in records)
    assert records[0]["seconds"] == pytest.approx(5 * 0.0125)
    total = np.sum([r.reward for r in results], axis=0)
    np.testing.assert_allclose([r["return"] for r in records], total, rtol=1e-5)
    np.testing.assert_array_equal(world.reset(SEED), first)
    assert MetaWorld(("reach-v3",), SEVEN, 1).observation_size == 39  # no one-hot of one task


def test_it_plays_what_metaworlds_own_benchmark_does() -> None:
    """The environment beside ours gets our goal by `set_task`, as the package's users set it."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.types import Task

    for name in ("push-v3", "drawer-open-v3"):
        world = MetaWorld((name,), SEVEN, 1)
        first = world.reset(SEED)
        kind = ALL_V3_ENVIRONMENTS[name]
        goal = {"rand_vec": world._envs[0].unwrapped._last_rand_vec.copy(), "env_cls": kind}
        theirs = kind()
        theirs.set_task(Task(name, pickle.dumps({**goal, "partially_observable": False})))
        np.testing.assert_array_equal(first[0], theirs.reset()[0].astype(np.float32))
        assert np.abs(first[0, -3:]).sum() > 0.1  # the goal is seen
        for action in actions(world, 30):
            result = world.step(action)
            seen, reward, *_ = theirs.step(action[0])
            np.testing.assert_array_equal(result.observation[0], seen.astype(np.float32))
            assert result.reward[0] == np.float32(reward)


def test_a_task_has_fifty_goals_which_the_runs_seed_draws() -> None:
    def goals(seed: int, of: int, resets: int) -> list[bytes]:
        world, found = MetaWorld(("window-close-v3",), of, 1), []
        world.reset(seed)
        for _ in range(resets):
            found.append(world._envs[0].unwrapped._last_rand_vec.tobytes())
            world._reset(world._envs[0])
        return found

    one, other = goals(1, SEVEN, 60), goals(2, SEVEN, 60)
    assert len({*one, *other}) <= GOALS and one != other
    assert len({*one} & {*other}) > 20
    assert not {*one} & {*goals(1, 8, 5)}


class Solver:
    """Reaches for the goal that it sees."""

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        reach = np.zeros((len(seen), 4), np.float32)
        reach[:, :3] = np.clip(25.0 * (seen[:, 36:39] - seen[:, :3]), -1, 1)
        return reach


def test_success_is_had_at_any_step_of_an_episode() -> None:
    world = shortened(MetaWorld(("reach-v3",), SEVEN, 2), 60)
    seen = world.reset(SEED)
    for step in range(60):
        action = Solver()(seen)
        action[1] = 0.0  # the second does not try
        if step > 50:
            action[0, :3] = [-1, -1, 1]  # and the first does not stay
        result = world.step(action)
        seen = result.observation
    assert [e["success"] for e in result.episodes] == [1.0, 0.0]
    assert world._success.tolist() == [0.0, 0.0]


def test_a_restored_world_goes_on_bit_for_bit(tmp_path: Path) -> None:
    check_restored(THREE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 50, 10))
def test_every_task_goes_on_bit_for_bit(first: int, tmp_path: Path) -> None:
    check_restored(METAWORLD["MT50"][first : first + 10], tmp_path)


def check_restored(tasks: tuple[str, ...], folder: Path) -> None:
    """From the middle of an episode over its end; the state holds what a reset moves."""
    world = shortened(MetaWorld(tasks, SEVEN, len(tasks)), 14)
    world.reset(SEED)
    played = actions(world, 34)
    for action in played[:20]:
        world.step(action)
    checkpoint.save(folder / "saved", {"world": world.state()})
    expected = [world.step(action) for action in played[20:]]
    assert any(result.episodes for result in expected)
    metaworld_world._VECTORS.clear()  # as in a fresh process
    other = shortened(MetaWorld(tasks, SEVEN, len(tasks)), 14)
    other.restore(checkpoint.load(folder / "saved")[0]["world"])
    for action, result in zip(played[20:], expected, strict=True):
        assert_equal(other.step(action), result)


def test_processes_play_the_same() -> None:
    whole = MetaWorld(THREE, SEVEN, 4)
    parts = ProcessWorld("metaworld", partial(MetaWorld, THREE, SEVEN), 4, 2)
    np.testing.assert_array_equal(whole.task, parts.task)
    np.testing.assert_array_equal(whole.reset(SEED), parts.reset(SEED))
    for action in actions(whole, 5):
        assert_equal(whole.step(action), parts.step(action))
    parts.restore(whole.state())
    action = actions(whole, 1)[0]
    assert_equal(whole.step(action), parts.step(action))
    parts.close()


@pytest.mark.parametrize(
    ("processes", "threads", "kind"), [(None, 1, MetaWorld), (None, 2, ProcessWorld),
                                       (0, 2, MetaWorld), (1, 1, ProcessWorld)],
)  # fmt: skip
def test_it_takes_the_cpus_that_the_run_has(
    processes: int | None, threads: int, kind: type
) -> None:
    world = {"kind": "metaworld:MT1:reach-v3", "num_envs": 2, "processes": processes}
    made = make_world(Config.model_validate({"world": world}), threads)
    assert isinstance(made, kind) and made.num_envs == 2
    made.close()
