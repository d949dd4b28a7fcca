"""The published walking policy walks as well in native worlds as in the official environment."""

from typing import Any

import numpy as np
import pytest
from envs.record import GAINS, WALKER, Walker, mjdata

from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import make_official, observe_official, score_official
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_target, pd_torque

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WALKER.exists(), reason="the walking policy is not at hand"),
]

SEEDS = (0, 1, 2)
SCORES = {"goalie": 5.05, "obstacle": 0.64, "kick_to_target": -0.62}
"""Means over SEEDS at 1.5 m/s and 2 Hz, turning half as fast as the ball is off (1/s)."""
Outcome = dict[tuple[str, int], dict[str, float]]
"""Task and seed to score and seconds."""


def walk_native(**walker: float) -> Outcome:
    seeds = [seed for seed in SEEDS for _ in game.TASKS]
    world = NativeWorld(game.TASKS, len(seeds), GAINS, auto_reset=False)
    walkers = [Walker(**walker) for _ in seeds]
    seen = world.reset(0, env_seeds=seeds)
    frame = world.frame()
    outcome: Outcome = {}
    while len(outcome) < len(seeds):
        # The official environment tells the orientation in float32.
        quats = frame.imu_quat.astype(np.float32)
        result = world.step(np.stack([w(*s) for w, *s in zip(walkers, seen, quats, strict=True)]))
        seen = result.observation
        frame = world.frame()
        for episode in result.episodes:
            i = int(episode["env"])
            outcome[game.TASKS[world.task[i]], seeds[i]] = episode
    return outcome


def walk_official(env: Any, task: str, seed: int, **walker: float) -> dict[str, float]:
    walk, data = Walker(**walker), mjdata(env)
    observation, info = env.reset(seed=seed)
    for step in range(game.EPISODE_STEPS):
        if step % 10 == 0:
            seen, quat = observe_official(observation, info, task), info["robot_quat"][[3, 0, 1, 2]]
            target = pd_target(walk(seen, quat).copy(), GAINS)
        torque = pd_torque(target, data.qpos[-12:], data.qvel[-12:], GAINS)
        observation, _, terminated, truncated, info = env.step(torque)
        if terminated or truncated:
            break
    score = score_official(info["reward_terms"], task)
    return {"score": score, "seconds": (step + 1) * game.TIMESTEP}


def means(outcome: Outcome) -> dict[str, float]:
    return {t: float(np.mean([outcome[t, s]["score"] for s in SEEDS])) for t in game.TASKS}


def test_it_scores_as_in_the_official_game() -> None:
    # Each feeds the policy from its own state, in closed loop for up to 10 s: what differs in the
    # last bit of an observation would end up as another kick.
    native = walk_native()
    for task in game.TASKS:
        env = make_official(task)
        for seed in SEEDS:
            official = walk_official(env, task, seed)
            for name, value in official.items():
                ours = native[task, seed][name]
                assert ours == pytest.approx(value, abs=1e-6), f"{task}, seed {seed}: {name}"
        env.close()
    # Scores of "walk at the ball" hang on how it is steered; this steering scores these.
    assert means(native) == pytest.approx(SCORES, abs=0.02)


def test_it_walks() -> None:
    outcome = walk_native()
    assert not any(episode["fallen"] for episode in outcome.values())
    assert all(episode["touched"] for episode in outcome.values())
    # The goalkeeper's ball lies 2 m ahead, its goal 2.2 m further.
    goal = outcome["goalie", 0]
    assert goal["success"] and goal["seconds"] < 5
