"""Memory of one world of each kind, in MB (10^6 bytes).

Host memory is the growth of the resident set in a process of its own while many worlds are made
and stepped, after as many have paid for what all share. Device memory is counted: the bytes of
a batch's state, and what the compiled control step allocates besides.

    python benchmarks/parts/world_memory.py
"""

from __future__ import annotations

import ctypes
import gc
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil

from booster_ray.config import Config
from booster_ray.evaluate.scores import gains
from booster_ray.soccer import game

MB = 1e6
NATIVE, OFFICIAL, MJX = 64, 2, 256
"""Worlds over which a measurement is averaged."""

STEPS = 40
"""Control steps before memory is read: MuJoCo touches its arena as contacts come, after 0.12 s."""


def memory_per_world() -> dict[str, float]:
    """MB of one world, by kind and task; a minute or two, with the compilation of the MJX step.

    ``native/TASK`` shares its model, ``native/TASK/randomized`` owns one (levels 1-3), of
    ``native/TASK/model`` MB; ``official/TASK`` is sai_mujoco's environment; ``mjx_jax/state`` is
    what a world carries, ``mjx_jax/checkpoint`` what is saved of it, ``mjx_jax/temporary`` what a
    step of it needs besides on this backend.
    """
    found: dict[str, float] = {}
    for task in game.TASKS:
        found |= alone(on_the_host, task)
    return found | alone(mjx_jax)


def alone(measure: Callable[..., Any], *args: Any) -> Any:
    """The result of ``measure(*args)`` in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def on_the_host(task: str) -> dict[str, float]:
    """What ``memory_per_world`` tells of ``task`` in native worlds and the official environment."""
    from booster_ray.envs.model import soccer_model

    return {
        f"native/{task}": _growth(lambda count: native(task, count, level=0), NATIVE),
        f"native/{task}/randomized": _growth(lambda count: native(task, count, level=1), NATIVE),
        f"native/{task}/model": soccer_model(task).model.nbuffer / MB,
        f"official/{task}": _growth(lambda count: official(task, count), OFFICIAL),
    }


def native(task: str, count: int, level: int) -> Any:
    """``count`` native worlds that have played for a while."""
    from booster_ray.envs.native import NativeWorld

    world = NativeWorld([task], count, gains(Config()), level=level)
    world.reset(0)
    for _ in range(STEPS):
        world.step(np.zeros((count, game.ACTION_SIZE)))
    return world


def official(task: str, count: int) -> list[Any]:
    """``count`` official environments that have played for a while."""
    from booster_ray.envs.official import make_official

    envs = [make_official(task) for _ in range(count)]
    for env in envs:
        env.reset(seed=0)
        for _ in range(10 * STEPS):
            env.step(np.zeros(game.ACTION_SIZE))
    return envs


def _growth(make: Callable[[int], Any], count: int) -> float:
    """MB a world of a second batch of ``count``, beside the first."""
    first = make(count)
    before = _resident()
    second = make(count)
    grown = _resident() - before
    del first, second
    return grown / count / MB


def _resident() -> int:
    """Bytes of this process in memory, without what it has freed but not returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def mjx_jax() -> dict[str, float]:
    """``mjx_jax/state`` and ``mjx_jax/temporary``, MB a world of ``MJX`` at level 3."""
    import jax

    from booster_ray.envs.mjx import AutoReset, SoccerEnv, state_tree

    worlds = AutoReset(SoccerEnv(game.TASKS, gains(Config()), level=3))
    state = jax.eval_shape(worlds.reset, jax.random.split(jax.random.PRNGKey(0), MJX))
    action = jax.ShapeDtypeStruct((MJX, game.ACTION_SIZE), np.float32)
    # Donated, as in a training loop: the new state takes the old one's place.
    step = jax.jit(worlds.step, donate_argnums=0).lower(state, action).compile()
    return {
        "mjx_jax/state": _bytes(state) / MJX / MB,
        "mjx_jax/checkpoint": _bytes(state_tree(state)) / MJX / MB,
        "mjx_jax/temporary": step.memory_analysis().temp_size_in_bytes / MJX / MB,
    }


def _bytes(tree: Any) -> int:
    import jax

    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def main() -> None:
    measured = memory_per_world()
    for name, value in measured.items():
        print(f"{name:36} {value:8.3f} MB")
    print(json.dumps({name: round(value, 4) for name, value in measured.items()}))


if __name__ == "__main__":
    main()
