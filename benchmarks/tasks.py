"""Meta-World: our world beside a plain loop over its environments, our SAC beside SBX's.

The plain loop is the package's own environments, stepped and reset in as many processes as ours,
dealt out alike, with nothing of ours in between; a round is over when the slowest of them is. SBX
and we train on the same worlds, networks, batch and updates per step (ReLU without LayerNorm).
Rounds are interleaved, medians are printed, and the last line is one JSON object.

    pip install -e .[bench,metaworld]     # without SBX its ratio is null
    python benchmarks/tasks.py [--tasks MT10] [--envs 20] [--processes 2] [--steps 200]
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

CORES = len(os.sched_getaffinity(0))
# What a run of ours sets for itself, here for all: JAX reads it when it loads.
os.environ.setdefault("NPROC", str(CORES))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from booster_ray.config import Config
from booster_ray.config.kinds import task_names
from booster_ray.envs.make import make_world
from booster_ray.envs.metaworld_world import MetaWorld
from booster_ray.envs.processes import ProcessWorld, dealt

ACTION = 4


def configured(args: argparse.Namespace) -> Config:
    """Ours, with the sizes of this comparison."""
    hidden = tuple(args.hidden)
    sac = {
        "actor_hidden": hidden, "critic_hidden": hidden, "activation": "relu", "layer_norm": False,
        "batch_size": args.batch, "updates_per_step": args.updates, "learning_starts": args.starts,
        "discount": 0.99, "tau": 0.005, "target_entropy": -4.0, "replay_size": 100_000,
    }  # fmt: skip
    world = {"kind": f"metaworld:{args.tasks}", "num_envs": args.envs, "processes": args.processes}
    return Config.model_validate({"sac": sac, "world": world})


def actions(args: argparse.Namespace) -> np.ndarray:
    shape = args.steps, args.envs, ACTION
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


# -- stepping --------------------------------------------------------------------------------------


def plain(pipe: Any, tasks: Sequence[str], places: Sequence[int], played: np.ndarray) -> None:
    """In a process: step its environments as anyone would, a round for each message."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.types import Task

    envs = []
    for place in places:
        kind = ALL_V3_ENVIRONMENTS[tasks[place % len(tasks)]]
        env = kind()
        space = env._random_reset_space
        goal = {"rand_vec": 0.3 * space.low + 0.7 * space.high, "env_cls": kind}
        env.set_task(Task("", pickle.dumps({**goal, "partially_observable": False})))
        env.reset()
        envs.append(env)
    pipe.send(None)
    while pipe.recv():
        began = time.perf_counter()
        for action in played:
            for env, own in zip(envs, action, strict=True):
                *_, truncated, _ = env.step(own)
                if truncated:
                    env.reset()
        pipe.send(time.perf_counter() - began)


class Plain:
    """The plain loop in processes."""

    def __init__(self, args: argparse.Namespace) -> None:
        tasks, played = task_names(f"metaworld:{args.tasks}"), actions(args)
        context = get_context("spawn")
        self._pipes, self._processes = [], []
        for places in dealt(args.envs, max(1, args.processes)):
            ours, theirs = context.Pipe()
            given = theirs, tasks, places.tolist(), played[:, places]
            process = context.Process(target=plain, args=given, daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def round(self) -> float:
        """Seconds of the slowest."""
        for pipe in self._pipes:
            pipe.send(True)
        return max(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()


def stepping(args: argparse.Namespace) -> dict[str, float]:
    """Env steps per second of both, medians over rounds that take turns."""
    tasks, played, theirs = task_names(f"metaworld:{args.tasks}"), actions(args), Plain(args)
    make = partial(MetaWorld, tasks, 0)
    ours: Any = make(args.envs)
    if args.processes:
        ours.close()
        ours = ProcessWorld("metaworld", make, args.envs, args.processes)
    ours.reset(0)

    def round_of_ours() -> float:
        began = time.perf_counter()
        for action in played:
            ours.step(action)
        return time.perf_counter() - began

    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(args.rounds):
        seconds["ours"].append(round_of_ours())
        seconds["plain"].append(theirs.round())
    ours.close()
    theirs.close()
    count = args.steps * args.envs
    return {name: count / statistics.median(found) for name, found in seconds.items()}


# -- training --------------------------------------------------------------------------------------


def our_loop(args: argparse.Namespace) -> float:
    """Env steps per second of our loop, once it learns."""
    import jax

    from booster_ray.train.pretrain import make_collector

    collector: Any = make_collector(configured(args))
    done = 0

    def advance(until: int) -> None:
        nonlocal done
        while done < until:
            collector.advance(done)
            done += collector.stride
        jax.block_until_ready(collector.learner._state.updates)

    advance(args.starts + 10 * args.envs)  # compiles
    began, start = time.perf_counter(), done
    advance(done + args.loop_steps)
    rate = (done - start) / (time.perf_counter() - began)
    collector.close()
    return rate


def sbx_loop(args: argparse.Namespace) -> Callable[[], float] | None:
    """The same of SBX's SAC on the same worlds; None where it is not installed."""
    try:
        from sbx import SAC
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.vec_env.base_vec_env import VecEnv
    except ImportError:
        return None
    from gymnasium.spaces import Box

    class Worlds(VecEnv):
        """Our worlds as Stable-Baselines3 takes them."""

        def __init__(self) -> None:
            self.world: Any = make_world(configured(args), args.processes)
            seen = Box(-np.inf, np.inf, (self.world.observation_size,), np.float32)
            self.render_mode = None
            super().__init__(args.envs, seen, Box(-1.0, 1.0, (ACTION,), np.float32))

        def reset(self) -> Any:
            return self.world.reset(0)

        def step_async(self, action: np.ndarray) -> None:
            self.action = action

        def step_wait(self) -> Any:
            result = self.world.step(self.action)
            infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            for i in np.flatnonzero(result.terminated | result.truncated):
                infos[i] = {
                    "terminal_observation": result.final_observation[i],
                    "TimeLimit.truncated": bool(result.truncated[i]),
                }
            done = result.terminated | result.truncated
            return result.observation, result.reward, done, infos

        def close(self) -> None:
            self.world.close()

        def get_attr(self, name: str, indices: Any = None) -> list[Any]:
            return [None] * self.num_envs

        def set_attr(self, name: str, value: Any, indices: Any = None) -> None:
            pass

        def env_method(self, name: str, *given: Any, indices: Any = None, **named: Any) -> Any:
            return [None] * self.num_envs

        def env_is_wrapped(self, kind: Any, indices: Any = None) -> list[bool]:
            return [False] * self.num_envs

    first = args.starts + 10 * args.envs

    class Clock(BaseCallback):
        began, done = 0.0, 0

        def _on_step(self) -> bool:
            if not self.began and self.num_timesteps >= first:
                self.began, self.done = time.perf_counter(), self.num_timesteps
            return True

    def loop() -> float:
        env, layers = Worlds(), list(args.hidden)
        model = SAC(
            "MlpPolicy", env, batch_size=args.batch, gradient_steps=args.updates, train_freq=1,
            buffer_size=100_000, learning_starts=args.starts, gamma=0.99, tau=0.005, seed=0,
            policy_kwargs={"net_arch": {"pi": layers, "qf": layers}},
        )  # fmt: skip
        clock = Clock()
        model.learn(first + args.loop_steps, callback=clock)
        rate = (model.num_timesteps - clock.done) / (time.perf_counter() - clock.began)
        env.close()
        return float(rate)

    return loop


def training(args: argparse.Namespace) -> dict[str, float]:
    """Env steps per second of both, medians over loops that take turns."""
    loops: dict[str, Callable[[], float]] = {"ours": lambda: our_loop(args)}
    if theirs := sbx_loop(args):
        loops["sbx"] = theirs
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(args.loops):
        for name, loop in loops.items():
            rates[name].append(loop())
    return {name: statistics.median(found) for name, found in rates.items()}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default="MT10", help="as behind metaworld: in a config")
    parser.add_argument("--envs", type=int, default=20)
    parser.add_argument("--processes", type=int, default=CORES)
    parser.add_argument("--steps", type=int, default=200, help="of a round of stepping alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop-steps", type=int, default=4_000, help="env steps of a whole loop")
    parser.add_argument("--loops", type=int, default=3, help="whole loops of each; 0: none")
    parser.add_argument("--starts", type=int, default=1_000, help="env steps before learning")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--updates", type=int, default=2, help="for each step of all worlds")
    parser.add_argument("--hidden", type=int, nargs="+", default=[400, 400, 400])
    return parser.parse_args()


def main() -> None:
    args = parsed()
    if find_spec("metaworld") is None:
        print(json.dumps({"skipped": "Meta-World is not installed (extra metaworld)"}))
        return
    print(f"{CORES} CPUs, {args.tasks}, {args.envs} environments in {args.processes} processes")
    rates = stepping(args)
    for name, rate in rates.items():
        print(f"  {name:8} {rate:9,.0f} env steps/s")
    summary: dict[str, float | None] = {"env_steps_vs_plain": rates["ours"] / rates["plain"]}
    if args.loops:
        rates = training(args)
        for name, rate in rates.items():
            print(f"  {name:8} {rate:9,.0f} env steps/s, SAC end to end")
        theirs = rates.get("sbx")
        summary["end_to_end_vs_sbx"] = rates["ours"] / theirs if theirs else None
    print(json.dumps({k: v if v is None else round(v, 3) for k, v in summary.items()}))


if __name__ == "__main__":
    main()
