"""``python -m booster_ray.evaluate.expert_search TASK``: numbers of the striker for the score.

A cross-entropy search (Rubinstein 1999). Every candidate plays each seed in a native world of its
own, with noise on its actions: a kick must score, and not only by the luck of one trajectory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial

import numpy as np

from booster_ray.cli import guarded, positive
from booster_ray.config import Config, ConfigError
from booster_ray.config.schema import Control
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains
from booster_ray.policy.experts import actions
from booster_ray.policy.experts.striker import FREQUENCY, LAWS, WEIGHTS, Law, Striker
from booster_ray.soccer import game

GAINS = gains(Config(control=Control(action_scale=1.0)))
"""Of the open walking policy: the defaults, but that an action is a radian."""
LOW = Law(0.4, 0.3, -1.3, -0.25, 0.0, 0.2, 0.1, 0.0, 0.0, -0.3,
          0.0, -0.3, -0.3, -0.5, -0.5, -0.5, 0.15, 0.2, 0.3, 0.2,
          0.0, -0.2, 0.0)  # fmt: skip
HIGH = Law(2.0, 3.0, 1.3, 0.25, 3.0, 1.5, 1.5, 1.0, 1.5, 0.7,
           1.0, 1.0, 0.8, 1.0, 0.8, 0.5, 1.0, 1.6, 1.2, 1.0,
           0.2, 0.2, 1.0)  # fmt: skip
"""Where numbers are searched."""
ELITE = 6
"""One in so many candidates is kept."""
LEAST = 0.02
"""Least deviation of a number, as a share of its range: the search does not freeze."""


def play(
    striker: Striker, task: str, laws: np.ndarray, seeds: int, noise: float, threads: int
) -> np.ndarray:
    """Official scores (laws, seeds) of candidates (laws, numbers of a law); lost is worst."""
    n = len(laws) * seeds
    world = NativeWorld((task,), n, GAINS, threads=threads, auto_reset=False,
                        gait_frequency=FREQUENCY)  # fmt: skip
    follow = partial(striker.follow, Law(*np.repeat(laws, seeds, axis=0).T))
    world.reset(0, env_seeds=list(range(seeds)) * len(laws))
    rng = np.random.default_rng(0)
    scores = np.zeros(n)
    over = np.zeros(n, bool)
    while not over.all():
        action = actions(follow, world, GAINS)
        action += noise * rng.standard_normal(action.shape)
        result = world.step(np.clip(action, -1, 1))
        over |= result.terminated | result.truncated
        for episode in result.episodes:
            scores[int(episode["env"])] = episode["score"]
    world.close()
    return scores.reshape(len(laws), seeds)


def main(argv: list[str]) -> int:
    """Read the command line and search; prints the best law of each generation."""
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.evaluate.expert_search",
        description="Search the striker's law of a task for the official score, from the present "
        f"law on. {WEIGHTS} names the walking policy's file.",
    )
    p.add_argument("task", choices=game.TASKS)
    p.add_argument("--generations", type=positive, default=12)
    p.add_argument("--candidates", type=positive, default=24)
    p.add_argument("--seeds", type=positive, default=8)
    p.add_argument("--noise", type=float, default=0.04, help="deviation, of an action")
    p.add_argument("--width", type=float, default=0.1, help="of the range, to begin with")
    p.add_argument("--from-scratch", action="store_true", help="anywhere in the range")
    p.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(argv)
    try:
        striker = Striker()
    except (ValueError, OSError) as error:
        raise ConfigError("environment", str(error)) from None
    search(striker, args)
    return 0


def search(striker: Striker, args: argparse.Namespace) -> None:
    """Generation after generation, each around the best of the one before."""
    rng, low, high = np.random.default_rng(args.seed), np.array(LOW), np.array(HIGH)
    mean = np.array(LAWS[game.TASKS.index(args.task)])
    deviation = args.width * (high - low)
    kept, began = mean[None], time.monotonic()
    for generation in range(1, args.generations + 1):
        laws = mean + deviation * rng.standard_normal((args.candidates, len(low)))
        if args.from_scratch and generation == 1:
            laws = rng.uniform(low, high, laws.shape)
        else:
            laws = np.clip(laws, low, high)
            laws[: len(kept)] = kept[: len(laws)]  # those that were best play again
        scores = play(striker, args.task, laws, args.seeds, args.noise, args.threads)
        fitness = scores.mean(axis=1)
        order = np.argsort(-fitness)
        elite = laws[order[: max(4, args.candidates // ELITE)]]
        mean, deviation = elite.mean(axis=0), elite.std(axis=0) + LEAST * (high - low)
        kept = elite[: max(1, len(elite) // 2)]
        spent = time.monotonic() - began
        left = spent / generation * (args.generations - generation)
        print(
            f"{generation}/{args.generations}: best {fitness[order[0]]:.2f} ± "
            f"{scores[order[0]].std():.2f}, median {np.median(fitness):.2f}  ETA {left:.0f} s\n  "
            + "Law(" + ", ".join(f"{value:.4f}" for value in laws[order[0]]) + ")",
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
