"""Search the laws of the demonstrator for the official score.

    BOOSTER_GYM_T1_WALK=walk.npz python examples/search_striker.py goalie [--generations 12]

A cross-entropy search (Rubinstein 1999) from the present law on, or within wide bounds
(``--from-scratch``). Every candidate plays each seed in a native world of its own, with noise on
its actions: a kick must score, and not only by the luck of one trajectory. Prints the best law.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from booster_ray.demonstrators.striker import FREQUENCY, LAWS, Law, Striker
from booster_ray.soccer import game
from booster_ray.soccer.control import leg_gains, pd_action, pd_target
from booster_ray.worlds.native import NativeWorld

GAINS = leg_gains(
    (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0), 1.0, (200.0,) * 4 + (50.0,) * 2, (5.0,) * 4 + (1.0,) * 2
)
"""Of the open walking policy."""
LOW = Law(0.4, 0.3, -1.3, -0.25, 0.0, 0.2, 0.1, 0.0, 0.0, -0.3, 0.0,
          -0.3, -0.3, -0.5, -0.5, -0.5, 0.15, 0.2, 0.3, 0.4)  # fmt: skip
HIGH = Law(2.0, 3.0, 1.3, 0.25, 3.0, 1.5, 1.5, 1.0, 1.5, 0.7, 1.0,
           1.0, 0.8, 1.0, 0.8, 0.5, 1.0, 1.6, 1.2, 1.6)  # fmt: skip
ELITE = 6
"""One in so many candidates is kept."""
LEAST = 0.02
"""Least deviation of a number, as a share of its range: the search does not freeze."""


def play(task: str, laws: np.ndarray, seeds: int, noise: float, threads: int) -> np.ndarray:
    """Official scores (laws, seeds) of candidates (laws, numbers of a law)."""
    n = len(laws) * seeds
    world = NativeWorld((task,), n, GAINS, threads=threads, auto_reset=False,
                        gait_frequency=FREQUENCY)  # fmt: skip
    law, striker = Law(*np.repeat(laws, seeds, axis=0).T), Striker()
    world.reset(0, env_seeds=list(range(seeds)) * len(laws))
    rng = np.random.default_rng(0)
    scores = np.full(n, np.nan)
    over = np.zeros(n, bool)
    while not over.all():
        kept = world.kept()
        kept = kept._replace(previous_action=pd_target(kept.previous_action, GAINS))
        action = pd_action(striker.follow(law, world.frame(), kept), GAINS)
        action += noise * rng.standard_normal(action.shape)
        result = world.step(np.clip(action, -1, 1))
        over |= result.terminated | result.truncated
        for episode in result.episodes:
            scores[int(episode["env"])] = episode["score"]
    world.close()
    return scores.reshape(len(laws), seeds)


def main() -> None:
    """Read the command line and search."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("task", choices=game.TASKS)
    parser.add_argument("--generations", type=int, default=12)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.05, help="deviation, of an action")
    parser.add_argument("--width", type=float, default=0.1, help="of the range, to begin with")
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, low, high = np.random.default_rng(args.seed), np.array(LOW), np.array(HIGH)
    mean = np.array(LAWS[game.TASKS.index(args.task)])
    deviation = args.width * (high - low)
    kept, began = mean[None], time.monotonic()
    for generation in range(args.generations):
        laws = mean + deviation * rng.standard_normal((args.candidates, len(low)))
        if args.from_scratch and generation == 0:
            laws = rng.uniform(low, high, laws.shape)
        else:
            laws[: len(kept)] = kept  # those that were best play again
        laws[len(kept) :] = np.clip(laws[len(kept) :], low, high)
        scores = play(args.task, laws, args.seeds, args.noise, args.threads)
        fitness = np.nan_to_num(scores, nan=-5.0).mean(axis=1)
        order = np.argsort(-fitness)
        elite = laws[order[: max(4, args.candidates // ELITE)]]
        mean, deviation = elite.mean(axis=0), elite.std(axis=0) + LEAST * (high - low)
        kept = elite[: max(1, len(elite) // 2)]
        best = scores[order[0]]
        print(
            f"generation {generation + 1}: best {fitness[order[0]]:.2f} ± {best.std():.2f}, median "
            f"{np.median(fitness):.2f}, the law it began with {fitness[0]:.2f}, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        print("  Law(" + ", ".join(f"{value:.4f}" for value in laws[order[0]]) + ")", flush=True)


if __name__ == "__main__":
    main()
