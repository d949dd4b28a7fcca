"""Our SAC beside SBX's on gymnasium's own tasks: the return after the same number of steps.

Same networks (256-256, ReLU, no LayerNorm), batch 256, one update a step in one environment,
γ 0.99, τ 0.005, learning rates 3e-4, temperature from 1 to an entropy of minus the action size:
SBX's defaults, which are those of Haarnoja et al. 2018. The score is the mean return of 20 greedy
episodes from the same reset seeds. The last line is one JSON object.

    pip install -e .[bench]        # SBX
    python benchmarks/returns.py [--seeds 3] [--tasks Pendulum-v1:5000 …] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NPROC", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import gymnasium
import numpy as np

from booster_ray.config import Config
from booster_ray.train.runner import Runner

TASKS = ("Pendulum-v1:5000", "InvertedDoublePendulum-v5:10000", "HalfCheetah-v5:20000")
EPISODES, FIRST_SEED, STARTS = 20, 10_000, 1000

Act = Callable[[np.ndarray], np.ndarray]
"""Observation (obs,) to the environment's own action (act,)."""


def play(task: str, act: Act) -> float:
    """Mean return of greedy episodes."""
    env, total = gymnasium.make(task), 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + EPISODES):
        observation, over = env.reset(seed=seed)[0], False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, over = total + float(reward), terminated or truncated
    env.close()
    return total / EPISODES


def ours(task: str, steps: int, seed: int) -> float:
    """Train with our loop, then play."""
    space = gymnasium.make(task).action_space
    sac = {
        "actor_hidden": [256, 256], "critic_hidden": [256, 256],
        "activation": "relu", "layer_norm": False, "normalize_observations": False,
        "actor_lr": 3e-4, "critic_lr": 3e-4, "alpha_lr": 3e-4, "adam_b2": 0.999,
        "weight_decay": 0.0, "batch_size": 256, "updates_per_step": 1, "discount": 0.99,
        "tau": 0.005, "init_alpha": 1.0, "target_entropy": -float(space.shape[0]),
        "log_std_min": -20.0, "learning_starts": STARTS, "replay_size": max(steps, 1024),
    }  # fmt: skip
    config = Config.model_validate(
        {
            "seed": seed,
            "world": {"kind": f"gym:{task}", "num_envs": 1},
            "sac": sac,
            "training": {"env_steps": steps, "report_every": steps},
            "evaluation": {"episodes_per_task": 1, "every": steps},
        }
    )
    run = Runner(config)
    for _ in run:
        pass
    centre, reach = 0.5 * (space.high + space.low), 0.5 * (space.high - space.low)

    def act(observation: np.ndarray) -> np.ndarray:
        unit = run.collector.act(observation[None].astype(np.float32))[0]
        return (centre + reach * unit).astype(space.dtype)

    score = play(task, act)
    run.close()
    return score


def sbx(task: str, steps: int, seed: int) -> float:
    """Train with SBX, then play."""
    from sbx import SAC

    model = SAC("MlpPolicy", task, seed=seed, learning_starts=STARTS, verbose=0)
    model.learn(steps)
    return play(task, lambda observation: model.predict(observation, deterministic=True)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="ENV_ID:STEPS")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write every return there")
    args = parser.parse_args()
    returns: dict[str, dict[str, list[float]]] = {}
    for entry in args.tasks:
        task, steps = entry.split(":")
        returns[entry] = {"ours": [], "sbx": []}
        for seed in range(args.seeds):
            for name, train in (("ours", ours), ("sbx", sbx)):
                score = train(task, int(steps), seed)
                returns[entry][name].append(round(score, 1))
                print(
                    f"{task:28} {steps:>7} steps  seed {seed}  {name:5} {score:10.1f}", flush=True
                )
        if args.json:
            args.json.write_text(json.dumps(returns))
    summary = {
        f"{entry} {name}": statistics.median(scores)
        for entry, both in returns.items()
        for name, scores in both.items()
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
