"""Physics steps per second of our worlds beside the official environment and bare physics.

Everything runs in this one process, interleaved, and medians are printed; the last line is one
JSON object. A physics step is 2 ms of game. The robot stands under PD control in all of them,
because a standing robot has the contacts that cost time; observation and reward are computed
after every physics step in ours as in the official environment.

    python benchmarks/worlds.py [--seconds 3] [--rounds 5] [--memory]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import mujoco
import numpy as np

from booster_ray.config import Config
from booster_ray.envs.model import soccer_model
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import make_official
from booster_ray.evaluate.scores import gains
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_torque

GAINS = gains(Config())
STANDING = np.zeros(12)
"""The action of the default pose. The robot stands for about a second before it topples."""

EPISODE = 400
"""Physics steps in an episode here: the robot is on its feet all the time."""


def rate(step: Callable[[], int], seconds: float) -> float:
    """Physics steps per second of ``step``, which returns how many it made."""
    step()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += step()
    return done / (time.perf_counter() - began)


def official(task: str) -> Callable[[], int]:
    """The official environment, one episode at a time."""
    env = make_official(task)
    data = env.unwrapped.sim.data

    def episode() -> int:
        env.reset(seed=0)
        for _ in range(EPISODE):
            q, v = data.qpos[-12:], data.qvel[-12:]
            env.step(pd_torque(GAINS.default_pose, q, v, GAINS))
        return EPISODE

    return episode


def recorded(task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Torques (EPISODE, 12) of a standing robot, keeper motion (EPISODE, 2), first state."""
    world = NativeWorld([task], 1, GAINS, decimation=1, auto_reset=False)
    world.reset(0, env_seeds=[0])
    first = world._slots[0].state.copy()
    torques = np.zeros((EPISODE, game.ACTION_SIZE))
    for k in range(EPISODE):
        world.step(STANDING[None])
        torques[k] = world._torque[0, 0]
    return torques, np.stack(world._keeper_tables, axis=1)[:EPISODE], first


def bare(task: str) -> Callable[[], int]:
    """``mj_step`` alone on the official model: the same torques, and the same keepers."""
    model = soccer_model(task).model
    torques, keepers, first = recorded(task)
    data = mujoco.MjData(model)
    moving = task == "goalie"

    def episode() -> int:
        mujoco.mj_setState(model, data, first, mujoco.mjtState.mjSTATE_INTEGRATION)
        for torque, (keeper_pos, keeper_vel) in zip(torques, keepers, strict=True):
            if moving:
                data.qpos[7:9], data.qvel[6:8] = keeper_pos, keeper_vel
            data.ctrl[-12:] = torque
            mujoco.mj_step(model, data)
        return EPISODE

    return episode


def native(task: str, threads: int, decimation: int, num_envs: int = 64) -> Callable[[], int]:
    """Our world; observation and reward once for each action."""
    world = NativeWorld(
        [task],
        num_envs,
        GAINS,
        decimation=decimation,
        threads=threads,
        weights={"alive": 1.0, "upright": 0.5, "height": 1.0},
        episode_steps=EPISODE,
    )
    world.reset(0)
    action = np.repeat(STANDING[None], num_envs, axis=0)

    def step() -> int:
        world.step(action)
        return num_envs * decimation

    return step


def mjx_ratio(seconds: float, rounds: int, worlds: int = 64) -> float:
    """Our MJX world (impl jax, this machine's device) over a bare vmapped ``mjx.step`` scan."""
    from parts.mjx_scan import bare_scan, env_scan

    from booster_ray.envs.mjx import SoccerEnv

    env = SoccerEnv(game.TASKS, GAINS, weights={"alive": 1.0, "upright": 0.5, "height": 1.0})
    runs = {"env.step": env_scan(env, worlds), "bare mjx.step": bare_scan(env, worlds)}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, step in runs.items():
            rates[name].append(rate(step, seconds))
    print(f"\nMJX-JAX, {worlds} worlds, all tasks")
    for name, values in rates.items():
        print(f"  {name:28} {statistics.median(values):9,.0f} physics steps/s")
    return statistics.median(rates["env.step"]) / statistics.median(rates["bare mjx.step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure MB a world too")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {len(cores)} CPUs, mujoco {mujoco.__version__}")
    ratios: dict[str, list[float]] = {}
    for task in game.TASKS:
        runs = {
            "official": official(task),
            "bare mj_step": bare(task),
            "native, 500 Hz actions": native(task, 1, 1, num_envs=256),
            "native, 50 Hz actions": native(task, 1, 10),
            "native, 50 Hz, 2 threads": native(task, 2, 10),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, step in runs.items():
                os.sched_setaffinity(0, cores if "threads" in name else cores[:1])
                rates[name].append(rate(step, args.seconds))
        os.sched_setaffinity(0, cores)
        median = {name: statistics.median(values) for name, values in rates.items()}
        print(f"\n{task}")
        for name, value in median.items():
            print(f"  {name:28} {value:9,.0f} physics steps/s")
        one, ten = median["native, 500 Hz actions"], median["native, 50 Hz actions"]
        for key, value in {
            "native_vs_official_per_core": one / median["official"],
            "native_vs_raw_mj_step": one / median["bare mj_step"],
            "native_50hz_vs_raw_mj_step": ten / median["bare mj_step"],
            "native_two_threads_vs_one": median["native, 50 Hz, 2 threads"] / ten,
        }.items():
            ratios.setdefault(key, []).append(value)
    ratios["mjx_vs_bare_mjx_step"] = [mjx_ratio(args.seconds, args.rounds)]
    if args.memory:
        from parts.world_memory import memory_per_world

        print("\nMB a world")
        for name, size in memory_per_world().items():
            print(f"  {name:32} {size:9.3f}")
    print()
    print(json.dumps({key: round(statistics.median(v), 3) for key, v in ratios.items()}))


if __name__ == "__main__":
    main()
