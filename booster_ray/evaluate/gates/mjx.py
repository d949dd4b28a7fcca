"""Whole episodes in MJX worlds, one of each world, measured as official ones are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.config import Config
from booster_ray.envs.mjx import SoccerEnv
from booster_ray.envs.mjx_world import resolved_impl
from booster_ray.envs.options import gains, soccer_options
from booster_ray.evaluate.play import Episode, Instant, Measures, Progress, lost, silent
from booster_ray.soccer import game, spawn


class MjxGame:
    """MJX worlds without randomization that play any episodes, so many at a time.

    XLA compiles for one number of worlds, so that number stays.

    Args:
        config: whose observation and control are played.
        policy: observations (n, obs) to actions (n, 12) in [-1, 1].
        worlds: episodes at a time.
        impl: ``auto``, ``jax`` or ``warp``.

    Raises:
        ValueError: MJX cannot be had as asked.
    """

    def __init__(
        self,
        config: Config,
        policy: Callable[[np.ndarray], np.ndarray],
        worlds: int,
        impl: str = "auto",
    ) -> None:
        self._policy, self._worlds = policy, worlds
        self._env = SoccerEnv(
            game.TASKS,
            gains(config),
            impl=resolved_impl(impl),
            worlds=worlds,
            **soccer_options(config),
        )
        self._reset = jax.jit(jax.vmap(self._env.reset_at))
        self._step = jax.jit(jax.vmap(self._env.step))

    def play(self, wanted: Sequence[tuple[str, int]], progress: Progress = silent) -> list[Episode]:
        """Play episodes (task, seed) from the spawns that the official game has for those seeds.

        ``first_touch``, the ball's speeds and terms are not measured here. An episode whose
        physics is lost counts as the worst outcome, see :func:`booster_ray.evaluate.play.lost`.

        Args:
            wanted: tasks and seeds, as ``env.reset(seed=…)`` takes them.
            progress: shown as it goes.
        """
        played: list[Episode] = []
        length = self._env.episode_length
        chunks = -(-len(wanted) // self._worlds)
        for i in range(chunks):
            chunk = wanted[i * self._worlds : (i + 1) * self._worlds]
            played += self._chunk(chunk, partial(_tell, progress, i * length, chunks * length))
        return played

    def _chunk(
        self, wanted: Sequence[tuple[str, int]], progress: Callable[[int], object]
    ) -> list[Episode]:
        # Worlds that are not wanted play the last episode once more, unseen.
        n, spare = len(wanted), [wanted[-1]] * (self._worlds - len(wanted))
        state = self._reset(*_spawns([*wanted, *spare]))
        measures, over = Measures(self._worlds), np.arange(self._worlds) >= n
        ended: dict[int, dict[str, float]] = {}
        for i in range(self._env.episode_length):
            action = self._policy(np.asarray(state.obs))
            state = self._step(state, jnp.asarray(action, jnp.float32))
            # Worlds that ended play on, unseen.
            done = (np.asarray(state.done) + np.asarray(state.info["truncation"])) > 0
            measures.add(_instant(self._env, state), ~over)
            told = {k: np.asarray(v) for k, v in state.metrics.items()}
            for world in np.flatnonzero(done & ~over):
                ended[int(world)] = {k: float(v[world]) for k, v in told.items()}
            over |= done
            progress(i + 1)
            if over.all():
                break
        return [_episode(*wanted[i], ended[i], self._of(measures, i)) for i in range(n)]

    def _of(self, measures: Measures, i: int) -> dict[str, Any]:
        """What was measured of world ``i``, once a control step and not once a physics step."""
        told = measures.of(i)
        return told | {"seconds": told["seconds"] * self._env.decimation, "first_touch": None}


def _tell(progress: Progress, before: int, whole: int, step: int) -> None:
    progress(before + step, whole)


def _spawns(wanted: Sequence[tuple[str, int]]) -> tuple[np.ndarray, spawn.Spawn]:
    """Tasks (n,) and the spawns (n, …) of the official game."""
    tasks = [game.TASKS.index(task) for task, _ in wanted]
    placed = [
        spawn.place(task, spawn.draw(task, np.random.default_rng(seed)))
        for task, (_, seed) in zip(tasks, wanted, strict=True)
    ]
    rows = [np.stack(parts).astype(np.float32) for parts in zip(*placed, strict=True)]
    return np.array(tasks, np.int32), spawn.Spawn(*rows)


def _instant(env: SoccerEnv, state: Any) -> Instant:
    world = state.pipeline_state
    torque = np.abs(np.asarray(world.data.ctrl)) / np.array(game.TORQUE_LIMITS)
    return Instant(
        touching=np.asarray(world.episode.touching),
        ball_speed=np.zeros(len(torque)),
        goal_speed=np.zeros(len(torque)),
        height=np.asarray(world.data.site_xpos[:, env.parts.imu_site, 2]),
        contact=np.mean(np.asarray(world.episode.air_time) == 0.0, axis=-1),
        torque=torque.mean(axis=-1),
    )


def _episode(task: str, seed: int, told: dict[str, float], measured: dict[str, Any]) -> Episode:
    if told["lost"]:
        return lost(task, seed, measured)
    names = ("score", "seconds", "fallen", "success", "touched")
    return Episode(task, seed, terms={}, **(measured | {n: told[n] for n in names}))
