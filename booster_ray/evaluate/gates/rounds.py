"""How many episodes gate 3 plays, in which rounds, and what chance of an error each round may have.

A group-sequential design: rounds double, and it stops as soon as the answer is known. The level is
spent over the rounds in proportion to the episodes (the power family of Kim and DeMets 1987 with
exponent 1, an alpha-spending function after Lan and DeMets 1983). Each round tests at its own
share, which by Bonferroni's inequality keeps the sum whatever the rounds have in common.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LEVEL = 0.05
"""Chance, at most, of passing a policy that loses more than a bound, and likewise of failing one
that does not."""

EPISODES = 512
"""Of each task, at most: what a policy that loses nothing needs to pass nine times in ten where
scores deviate by 2 and nothing but the policy is common to both simulators."""

FIRST_ROUND = 32

RATE_BOUND = 0.2
"""How much the fall rate may rise."""

MINIMUM = math.ceil(math.log(LEVEL) / math.log(1 - RATE_BOUND))
"""14: with fewer episodes, a policy that falls too often by the bound shows no fall in more than
one of twenty tries, so that even perfect agreement must not pass."""


class Round(NamedTuple):
    """When to look, and how strictly."""

    episodes: int
    """Of each task, played by then."""
    alpha: float
    """Chance of an error that this look may have."""


def schedule(most: int) -> list[Round]:
    """The rounds up to ``most`` episodes of a task, at least 1: 32, 64, 128, … ``most``."""
    sizes = [FIRST_ROUND]
    while sizes[-1] * 2 < most:
        sizes.append(sizes[-1] * 2)
    sizes = [size for size in sizes if size < most] + [most]
    before = [0, *sizes[:-1]]
    return [Round(n, LEVEL * (n - b) / most) for n, b in zip(sizes, before, strict=True)]


def round_up(episodes: float) -> int:
    """The least size of a round that is no smaller."""
    doublings = max(0, math.ceil(math.log2(max(episodes, 1) / FIRST_ROUND)))
    return int(FIRST_ROUND * 2**doublings)
