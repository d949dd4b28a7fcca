"""Physics steps of an MJX world beside a bare vmapped ``mjx.step`` scan of the same model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from brax.envs.base import State
from mujoco import mjx

from booster_ray.envs.mjx import SoccerEnv
from booster_ray.soccer import game

CONTROL_STEPS = 20
"""Control steps in one call: 0.4 s at a decimation of 10, in which the robot lands and stands."""


def _start(env: SoccerEnv, batch: int) -> State:
    return jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.PRNGKey(0), batch))


def env_scan(env: SoccerEnv, batch: int) -> Callable[[], int]:
    """``env.step`` over ``batch`` standing worlds; each call returns the physics steps it made."""
    start = _start(env, batch)
    action = jnp.zeros((batch, game.ACTION_SIZE))

    @jax.jit
    def play(state: State) -> tuple[jax.Array, jax.Array]:
        def control(state: State, _: None) -> tuple[State, jax.Array]:
            state = jax.vmap(env.step)(state, action)
            return state, state.reward + state.obs.sum(axis=-1)

        state, paid = jax.lax.scan(control, state, None, length=CONTROL_STEPS)
        return state.pipeline_state.data.qpos, paid

    return lambda: _steps(env, batch, play(start))


def bare_scan(env: SoccerEnv, batch: int) -> Callable[[], int]:
    """``mjx.step`` alone from the same states, replaying the torques that ``env_scan`` applied."""
    start = _start(env, batch).pipeline_state.data
    torques = recorded_torques(env, batch)

    @jax.jit
    def play(data: mjx.Data) -> jax.Array:
        def physics(data: mjx.Data, torque: jax.Array) -> tuple[mjx.Data, None]:
            step = jax.vmap(lambda d, u: mjx.step(env.sys, d.replace(ctrl=u)))
            return step(data, torque), None

        with jax.default_matmul_precision("highest"):
            return jax.lax.scan(physics, data, torques)[0].qpos

    return lambda: _steps(env, batch, play(start))


def recorded_torques(env: SoccerEnv, batch: int) -> jax.Array:
    """The standing robots' torques, N·m (physics steps, batch, 12)."""
    zero = jnp.zeros(game.ACTION_SIZE)

    @jax.jit
    def play(state: State) -> jax.Array:
        def control(world, _: None):
            data, frames, _ = env._advance(world, zero, jax.random.PRNGKey(0))
            episode = world.episode._replace(steps=world.episode.steps + env.decimation)
            return world._replace(data=data, episode=episode), frames.torque

        one = lambda world: jax.lax.scan(control, world, None, length=CONTROL_STEPS)[1]  # noqa: E731
        torque = jax.vmap(one)(state.pipeline_state)
        return jnp.moveaxis(torque.reshape(batch, -1, game.ACTION_SIZE), 0, 1)

    return jax.block_until_ready(play(_start(env, batch)))


def _steps(env: SoccerEnv, batch: int, result: object) -> int:
    jax.block_until_ready(result)
    return CONTROL_STEPS * env.decimation * batch
