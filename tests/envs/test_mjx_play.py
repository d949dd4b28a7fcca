"""MJX worlds over a second and more: divergence from native ones, a walk, and Brax's own SAC.

``python -m pytest -s -m "" tests/envs/test_mjx_play.py -k divergence`` prints the tables of
docs/worlds.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import State
from envs.device import KICK, N, Step, compiled, env, keys, three
from envs.record import GAINS, WALKER, Walker
from envs.test_mjx import copied, three_of, twice

from booster_ray.envs import mjx
from booster_ray.envs.native import NativeWorld
from booster_ray.soccer.geometry import rotate

MOMENTS = {0.1: 5, 0.5: 25, 1.0: 50}
"""Seconds to control steps."""

BOUNDS = {
    # (root m, joints rad, centre of the ball m) by moment
    "standing": {0.1: (5e-4, 2e-3, 5e-4), 0.5: (1e-3, 5e-3, 1e-3), 1.0: (1e-2, 0.1, 2e-3)},
    "stepping": {0.1: (5e-4, 2e-3, 5e-4), 0.5: (2e-3, 1e-2, 1e-3), 1.0: (3e-2, 0.2, 2e-3)},
    "rolling": {0.1: (5e-4, 2e-3, 1e-3), 0.5: (1e-3, 5e-3, 2e-2), 1.0: (1e-2, 0.1, 5e-2)},
}
"""Nothing balances these robots: from about 0.7 s on they topple, and errors grow with the fall."""

CENTRE = np.array([0.0, 0.0, 0.11])


def stepping(k: int) -> np.ndarray:
    """Offsets (12,) rad at control step ``k``: legs lifted in turn, 1.5 times a second."""
    action, phase = np.zeros(12), 2 * np.pi * 1.5 * 0.02 * k
    for leg, side in ((0, 1), (6, -1)):
        lift = 0.1 * max(0.0, side * np.sin(phase))
        action[[leg, leg + 3, leg + 4]] = -lift, 2 * lift, -lift
    return action


def centre(qpos: np.ndarray) -> np.ndarray:
    return np.asarray(qpos[:3] + rotate(qpos[3:7], CENTRE))


def of_three() -> tuple[mjx.SoccerEnv, State, Step]:
    """Three worlds of impl jax and their control step, by the program of ``N`` of all tasks."""
    e, reset, step, _ = three()
    return (
        e,
        three_of(reset(keys(N))),
        lambda states, action: three_of(step(twice(states), np.concatenate([action, action]))),
    )


def of_warp() -> tuple[mjx.SoccerEnv, State, Step]:
    e = env(KICK, impl="warp", worlds=3)
    return e, jax.vmap(e.reset)(keys(3)), compiled(jax.vmap(e.step))


IMPLS = {"jax": of_three, "warp": of_warp}


def divergence(impl: str) -> dict[str, dict[float, tuple[float, float, float]]]:
    """Largest differences of qpos, by play and moment: root m, joints rad, ball's centre m."""
    plays = list(BOUNDS)
    w = NativeWorld(KICK, len(plays), GAINS, auto_reset=False)
    w.reset(1)
    away = w._slots[2].qpos[:2] - w._slots[2].qpos[7:9]
    w._slots[2].qvel[:2] = 2.0 * away / np.linalg.norm(away)
    e, states, step = IMPLS[impl]()
    states = copied(w, e, states)
    table: dict[str, dict[float, tuple[float, float, float]]] = {play: {} for play in plays}
    for k in range(50):
        action = np.stack([stepping(k) if play == "stepping" else np.zeros(12) for play in plays])
        states = step(states, np.float32(action))
        w.step(action)
        for moment in (m for m, at in MOMENTS.items() if at == k + 1):
            for i, play in enumerate(plays):
                ours = np.asarray(states.pipeline_state.data.qpos[i], np.float64)
                theirs = w._slots[i].qpos
                error = np.abs(ours - theirs)
                ball = np.abs(centre(ours) - centre(theirs)).max()
                table[play][moment] = (error[7:10].max(), error[14:].max(), ball)
    return table


def check(impl: str) -> None:
    table = divergence(impl)
    print(f"\n| {impl} | s | root, mm | joints, mrad | ball, mm |\n|---|---|---|---|---|")
    for play, moments in table.items():
        for moment, values in moments.items():
            row = " | ".join(f"{1e3 * value:.3g}" for value in values)
            print(f"| {play} | {moment} | {row} |")
    for play, moments in table.items():
        for moment, values in moments.items():
            assert np.all(np.array(values) < BOUNDS[play][moment]), (play, moment, values)


def test_divergence_of_jax() -> None:
    check("jax")


@pytest.mark.slow
def test_divergence_of_warp() -> None:
    pytest.importorskip("warp")
    check("warp")


@pytest.mark.slow
@pytest.mark.skipif(not WALKER.exists(), reason="the walking policy is not at hand")
def test_the_published_policy_walks() -> None:
    n = 6
    e = env()
    step = compiled(jax.vmap(e.step))
    states = jax.vmap(e.reset)(keys(n))
    walkers = [Walker() for _ in range(n)]
    start = np.asarray(states.pipeline_state.data.qpos[:, 7:9])
    walked, standing = np.zeros(n), np.ones(n, bool)
    for _ in range(200):
        quats = np.asarray(states.pipeline_state.data.xquat[:, e.parts.trunk])
        action = [w(o, q) for w, o, q in zip(walkers, np.asarray(states.obs), quats, strict=True)]
        states = step(states, jnp.asarray(np.stack(action), jnp.float32))
        assert not (np.asarray(states.metrics["fallen"]) * standing).any()
        standing &= np.asarray(states.done) == 0  # goals and lost balls end episodes too
        distance = np.linalg.norm(states.pipeline_state.data.qpos[:, 7:9] - start, axis=1)
        walked = np.where(standing, distance, walked)
        if not standing.any():
            break
    print("walked", walked.round(2))
    assert (walked > 0.4).all() and walked.max() > 2.0


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["sac", "ppo"])
def test_brax_trains_on_it(trainer: str) -> None:
    e = env(episode_steps=500, level=1, weights={"alive": 1.0, "upright": 0.5})
    common: dict[str, Any] = {
        "environment": e, "episode_length": e.episode_length, "num_evals": 2, "num_eval_envs": 4,
        "num_envs": 8, "seed": 0,
    }  # fmt: skip
    seen: list[dict[str, Any]] = []
    if trainer == "sac":
        from brax.training.agents.sac import train as sac

        sac.train(
            **common, num_timesteps=2000, min_replay_size=256, max_replay_size=4096, batch_size=64,
            progress_fn=lambda _, metrics: seen.append(metrics),
        )  # fmt: skip
    else:
        from brax.training.agents.ppo import train as ppo

        ppo.train(
            **common, num_timesteps=2000, unroll_length=10, batch_size=8, num_minibatches=4,
            progress_fn=lambda _, metrics: seen.append(metrics),
        )  # fmt: skip
    assert len(seen) == 2
    for metrics in seen:
        assert np.isfinite(metrics["eval/episode_reward"])
        assert 5 < metrics["eval/avg_episode_length"] <= e.episode_length == 50
        assert metrics["eval/episode_lost"] == 0
