"""Native worlds against the official environment: whole episodes, every number, and spawns.

The official episodes come first, their torques from their own states. Native worlds then get the
same torques, all at once, and never see the official state again.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from envs.record import GAINS, LIMITS, Play, Step, episode, mjdata, plays

from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import observe_official, score_official
from booster_ray.soccer import game
from booster_ray.soccer.scoring import raw_terms

TOLERANCE = 1e-6
SHORT = {"noise", "rolled", "goal", "offside", "block"}
"""Behaviours that the quick tests play, for at most QUICK_STEPS."""
QUICK_STEPS = 300


class Episode(NamedTuple):
    """An official episode, T steps."""

    play: Play
    start: dict[str, np.ndarray]
    """State before the first step."""
    actions: np.ndarray
    """(T, 12) fractions of the torque limits."""
    observations: np.ndarray
    """(T, 89) after each step."""
    terms: dict[str, np.ndarray]
    """(T,) each."""
    terminated: np.ndarray
    """bool (T,)."""
    truncated: np.ndarray
    score: float
    success: bool


def play_official(env: Any, task: str, play: Play, limit: int) -> Episode:
    steps: list[Step] = []
    for step in episode(env, task, play.behaviour, play.seed):
        steps.append(step)
        if len(steps) == limit:
            break
    terms = [step.info["reward_terms"] for step in steps]
    return Episode(
        play,
        steps[0].before,
        np.stack([step.action for step in steps]),
        np.stack([observe_official(step.observation, step.info, task) for step in steps]),
        {name: np.array([float(t[name]) for t in terms]) for name in terms[0]},
        np.array([step.terminated for step in steps]),
        np.array([step.truncated for step in steps]),
        score_official(terms[-1], task),
        bool(steps[-1].info["success"]),
    )


def assert_close(ours: Any, theirs: Any, worst: dict[str, float], name: str, where: str) -> None:
    difference = float(np.max(np.abs(np.asarray(ours, float) - np.asarray(theirs, float))))
    worst[name] = max(worst.get(name, 0.0), difference)
    assert difference <= TOLERANCE, f"{name} differs by {difference} in {where}"


def assert_parity(task: str, official: list[Episode]) -> dict[str, float]:
    """Replay ``official`` natively, all at once; the largest difference of each number."""
    seeds = [e.play.seed for e in official]
    world = NativeWorld(
        [task], len(seeds), GAINS, mode="torque", decimation=1, threads=2, auto_reset=False
    )
    world.reset(0, env_seeds=seeds)
    for slot, e in zip(world._slots, official, strict=True):
        slot.qpos[:], slot.qvel[:] = e.start["qpos"], e.start["qvel"]
    worst: dict[str, float] = {}
    for k in range(max(len(e.actions) for e in official)):
        last = [min(k, len(e.actions) - 1) for e in official]
        action = np.stack([e.actions[i] for e, i in zip(official, last, strict=True)])
        result = world.step(action)
        terms = raw_terms(world.frame())
        records = {int(r["env"]): r for r in result.episodes}
        for i, e in enumerate(official):
            if k >= len(e.actions):
                continue
            where = f"{task}/{e.play.name}, step {k + 1}"
            seen = result.final_observation[i]
            assert_close(seen, e.observations[k], worst, "observation", where)
            for name, values in e.terms.items():
                assert_close(terms[name][i], values[k], worst, name, where)
            ends = (e.terminated[k], e.truncated[k])
            assert (result.terminated[i], result.truncated[i]) == ends, where
            assert (i in records) == any(ends), where
            if any(ends):
                assert_close(records[i]["score"], e.score, worst, "score", where)
                assert records[i]["success"] == e.success, where
    world.close()
    return worst


def test_parity_quick(env: Any, task: str) -> None:
    some = [play for play in plays(task) if play.name in SHORT]
    assert_parity(task, [play_official(env, task, play, QUICK_STEPS) for play in some])


@pytest.mark.slow
def test_parity_of_whole_episodes(env: Any, task: str) -> None:
    # Every behaviour on three seeds, about 45 episodes; block and ghost depend on where panels are.
    fixed = [play for play in plays(task) if play.name in ("block", "ghost")]
    free = [play for play in plays(task) if play not in fixed]
    runs = fixed + [p._replace(seed=p.seed + shift) for shift in (0, 100, 200) for p in free]
    official = [play_official(env, task, play, game.EPISODE_STEPS) for play in runs]
    worst = assert_parity(task, official)
    lengths = sorted(len(e.actions) for e in official)
    print(f"\n{task}: {len(official)} episodes, {sum(lengths)} steps, largest differences {worst}")
    assert len(official) >= 20 and lengths[-1] == game.EPISODE_STEPS
    happened = {name for e in official for name, values in e.terms.items() if values[-1]}
    penalties = {"goal_scored", "offside", "ball_blocked", "robot_fallen"}
    assert happened >= ({"offside", "success"} if task == "kick_to_target" else penalties)
    assert {e.success for e in official} == {True, False}


def assert_equal_spawns(env: Any, task: str, seeds: range) -> int:
    """Compare resets; the number of different ones."""
    world = NativeWorld([task], 1, GAINS)
    spawns = set()
    for seed in seeds:
        seen = world.reset(0, env_seeds=[seed])[0]
        official = observe_official(*env.reset(seed=seed), task)
        np.testing.assert_allclose(seen, official, rtol=0, atol=TOLERANCE, err_msg=f"seed {seed}")
        state = world._slots[0]
        np.testing.assert_allclose(state.qpos, mjdata(env).qpos, rtol=0, atol=1e-12)
        assert (state.qvel == 0).all() and (mjdata(env).qvel == 0).all()
        spawns.add(seen.tobytes())
    return len(spawns)


@pytest.mark.slow
def test_thousand_spawns(env: Any, task: str) -> None:
    different = assert_equal_spawns(env, task, range(1000))
    assert (different == 1) if task == "goalie" else different > 990


def test_torque_in_newton_metres_is_the_official_action(env: Any, task: str) -> None:
    # float32 torques, whose fraction of the limit would round: equal to the last bit.
    world = NativeWorld([task], 1, GAINS, mode="newton_metres", decimation=1, auto_reset=False)
    world.reset(0, env_seeds=[0])
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(100):
        torque = rng.uniform(-1.2 * LIMITS, 1.2 * LIMITS).astype(np.float32)
        env.step(torque)
        world.step(torque[None])
        np.testing.assert_array_equal(world._slots[0].qpos, mjdata(env).qpos)
        np.testing.assert_array_equal(world._slots[0].qvel, mjdata(env).qvel)
