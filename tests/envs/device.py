"""MJX worlds that several files of tests play, each program compiled once for all of them.

They are most of what `make test` compiles; tests/conftest.py runs those files in one process.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from brax.envs.base import State
from envs.record import GAINS

from booster_ray.envs import mjx
from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame

KICK = ("kick_to_target",)
WEIGHTS = {"alive": 1.0, "upright": 0.5, "torque": -0.1, "official": 1.0}
N = 6
CHUNK = 4
"""Control steps in one call of a batch."""

QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""XLA compiles in less than half the time, in exchange for slower programs."""

Reset = Callable[[jax.Array], State]
Step = Callable[[State, jax.Array], State]


def env(tasks: tuple[str, ...] = game.TASKS, **options: Any) -> mjx.SoccerEnv:
    return mjx.SoccerEnv(tasks, GAINS, **options)


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.PRNGKey(seed), n)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    program = jax.jit(function, compiler_options=QUICK)
    # Arrays bound to a device and arrays that are not would compile twice.
    return lambda *given: program(*jax.device_put(given, jax.devices()[0]))


class Filmed(mjx.SoccerEnv):
    """An environment that keeps what the rules are shown of a control step."""

    film: Frame
    """(decimation, ...): traced, of the last step that was."""

    def _advance(self, *given: Any) -> Any:
        advanced = super()._advance(*given)
        self.film = advanced[1]
        return advanced


class Three(NamedTuple):
    """``N`` worlds of all tasks, not randomized."""

    env: mjx.SoccerEnv
    reset: Reset
    step: Step
    filmed: Callable[[State, jax.Array], tuple[State, Frame]]
    """The step and its physics steps, (N, decimation, ...)."""


@cache
def three() -> Three:
    e = Filmed(game.TASKS, GAINS, weights=WEIGHTS)
    filmed = compiled(jax.vmap(lambda state, action: (e.step(state, action), e.film)))
    return Three(e, compiled(jax.vmap(e.reset)), lambda *given: filmed(*given)[0], filmed)


class Batch(NamedTuple):
    """``N`` worlds of all tasks at level 3 that reset themselves."""

    worlds: mjx.AutoReset
    reset: Reset
    play: Callable[[State, np.ndarray], tuple[State, mjx.Outcome]]
    """Apply actions (CHUNK, N, 12) in one scan."""


@cache
def batch() -> Batch:
    worlds = mjx.AutoReset(env(weights=WEIGHTS, level=3))

    def scan(states: State, actions: jax.Array) -> tuple[State, mjx.Outcome]:
        def control(states: State, action: jax.Array) -> tuple[State, mjx.Outcome]:
            states = worlds.step(states, action)
            return states, mjx.outcome(states)

        return jax.lax.scan(control, states, actions)

    play = compiled(scan)
    return Batch(
        worlds,
        compiled(worlds.reset),
        lambda states, actions: play(states, np.asarray(actions, np.float32)),
    )
