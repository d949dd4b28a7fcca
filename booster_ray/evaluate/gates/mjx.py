"""Whole episodes in MJX worlds, one of each world, measured as official ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.config import Config
from booster_ray.envs.mjx import SoccerEnv
from booster_ray.envs.mjx_world import resolved_impl
from booster_ray.envs.options import gains, soccer_options
from booster_ray.evaluate.play import Episode, Instant, Measures, Progress, silent
from booster_ray.soccer import game

_KEYS_A_WORLD = 16
"""Keys tried for each world that is wanted: a reset draws its task."""


def play_mjx(
    config: Config,
    policy: Callable[[np.ndarray], np.ndarray],
    episodes: int,
    *,
    impl: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> list[Episode]:
    """Play ``episodes`` of each task without randomization.

    ``seed`` of an episode is its place; ``first_touch``, ``ball_speed`` and terms are not
    measured here. Episodes whose state was lost are left out.

    Args:
        config: whose observation and control are played.
        policy: observations (n, obs) to actions (n, 12) in [-1, 1].
        episodes: of each task.
        impl: ``auto``, ``jax`` or ``warp``.
        seed: of the spawns.
        progress: shown as it goes.
    """
    n = episodes * len(game.TASKS)
    env = SoccerEnv(
        game.TASKS, gains(config), impl=resolved_impl(impl), worlds=n, **soccer_options(config)
    )
    step = jax.jit(jax.vmap(env.step))
    state = jax.jit(jax.vmap(env.reset))(_balanced_keys(env, episodes, seed))
    task = np.asarray(state.pipeline_state.episode.task)
    measures, over = Measures(n), np.zeros(n, bool)
    ended: dict[int, dict[str, float]] = {}
    for i in range(env.episode_length):
        action = policy(np.asarray(state.obs))
        state = step(state, jnp.asarray(action, jnp.float32))
        # Worlds that ended play on, unseen.
        done = (np.asarray(state.done) + np.asarray(state.info["truncation"])) > 0
        measures.add(_instant(env, state), ~over)
        for world in np.flatnonzero(done & ~over):
            told = {k: float(v[world]) for k, v in state.metrics.items()}
            if not told["lost"]:
                ended[int(world)] = told
        over |= done
        progress(i + 1, env.episode_length)
        if over.all():
            break
    return [_episode(game.TASKS[task[i]], i, told, measures) for i, told in sorted(ended.items())]


def _balanced_keys(env: SoccerEnv, episodes: int, seed: int) -> jax.Array:
    """Keys whose resets draw each task ``episodes`` times, in the tasks' order. (n, 2)."""
    tries = _KEYS_A_WORLD * episodes * len(game.TASKS)
    keys = jax.random.split(jax.random.PRNGKey(seed), tries)
    drawn = np.asarray(
        jax.jit(jax.vmap(lambda key: env.reset(key).pipeline_state.episode.task))(keys)
    )
    chosen = [np.flatnonzero(drawn == task)[:episodes] for task in range(len(game.TASKS))]
    return keys[np.concatenate(chosen)]


def _instant(env: SoccerEnv, state: Any) -> Instant:
    world = state.pipeline_state
    torque = np.abs(np.asarray(world.data.ctrl)) / np.array(game.TORQUE_LIMITS)
    return Instant(
        touching=np.asarray(world.episode.touching),
        ball_speed=np.zeros(len(torque)),
        height=np.asarray(world.data.site_xpos[:, env.parts.imu_site, 2]),
        contact=np.mean(np.asarray(world.episode.air_time) == 0.0, axis=-1),
        torque=torque.mean(axis=-1),
    )


def _episode(task: str, place: int, told: dict[str, float], measures: Measures) -> Episode:
    names = ("score", "seconds", "fallen", "success", "touched")
    measured = measures.of(place) | {n: told[n] for n in names}
    measured |= {"first_touch": None, "terms": {}}
    return Episode(task, place, **measured)
