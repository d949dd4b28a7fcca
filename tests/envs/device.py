"""MJX worlds that several files of tests play, each program compiled once for all of them."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import State
from envs.record import GAINS

from booster_ray.envs import mjx
from booster_ray.soccer import game

KICK = ("kick_to_target",)
WEIGHTS = {"alive": 1.0, "upright": 0.5, "torque": -0.1, "official": 1.0}
N = 6
CHUNK = 4
"""Control steps in one call of a batch."""

Reset = Callable[[jax.Array], State]
Step = Callable[[State, jax.Array], State]


def env(tasks: tuple[str, ...] = game.TASKS, **options: Any) -> mjx.SoccerEnv:
    return mjx.SoccerEnv(tasks, GAINS, **options)


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.PRNGKey(seed), n)


def compiled(e: mjx.SoccerEnv) -> Step:
    step = jax.jit(jax.vmap(e.step))
    # Arrays bound to a device and arrays that are not would compile twice.
    return lambda states, action: step(*jax.device_put((states, action), jax.devices()[0]))


@cache
def three() -> tuple[mjx.SoccerEnv, Reset, Step]:
    """All tasks, not randomized, with compiled reset and step of ``N`` worlds."""
    e = env(weights=WEIGHTS)
    return e, jax.jit(jax.vmap(e.reset)), compiled(e)


class Batch(NamedTuple):
    """``N`` worlds of all tasks at level 3 that reset themselves."""

    worlds: mjx.AutoReset
    reset: Reset
    play: Callable[[State, np.ndarray], tuple[State, mjx.Outcome]]
    """Apply actions (CHUNK, N, 12) in one scan."""


@cache
def batch() -> Batch:
    worlds = mjx.AutoReset(env(weights=WEIGHTS, level=3))

    @jax.jit
    def scan(states: State, actions: jax.Array) -> tuple[State, mjx.Outcome]:
        def control(states: State, action: jax.Array) -> tuple[State, mjx.Outcome]:
            states = worlds.step(states, action)
            return states, mjx.outcome(states)

        return jax.lax.scan(control, states, actions)

    def play(states: State, actions: np.ndarray) -> tuple[State, mjx.Outcome]:
        given = states, jnp.asarray(actions, jnp.float32)
        return scan(*jax.device_put(given, jax.devices()[0]))

    return Batch(worlds, jax.jit(worlds.reset), play)
