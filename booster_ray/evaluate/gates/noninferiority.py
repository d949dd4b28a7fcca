"""One-sided tests of how much a policy loses between two simulators, on pairs of episodes.

Arrays are (..., n): n pairs that share their spawn, in any number of studies at once. Each test
gives two p-values, see :class:`Evidence`, so that a verdict is a comparison with a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from booster_ray.evaluate.gates.rounds import LEVEL, RATE_BOUND, round_up

POWER = 0.8
"""Chance of an answer with the episodes that :func:`needed` names, if all goes on as it was."""


class Bound(NamedTuple):
    """How much may be lost of a metric: an amount, or a share of the MJX value, if larger."""

    amount: float
    share: float
    sign: int
    """1 where more is better, -1 where less is."""

    def at(self, mjx: np.ndarray) -> np.ndarray:
        """The loss that is allowed where MJX has a mean of ``mjx``. (...)."""
        return np.maximum(self.amount, self.share * np.abs(mjx))


BOUNDS = {
    "seconds": Bound(0.5, 0.2, 1),
    "fallen": Bound(RATE_BOUND, 0.0, -1),
    "score": Bound(0.5, 0.25, 1),
}
"""By the names of an episode's fields: survival (s), fall rate, official score."""

RATES = ("fallen",)


MOST = 16_384
"""Pairs beyond which nobody would wait."""


class Sample(NamedTuple):
    """Pairs of episodes, by one of ``BOUNDS``."""

    name: str
    """Of ``BOUNDS``."""
    theirs: np.ndarray
    """In MJX. (..., n)."""
    ours: np.ndarray
    """In the official game, of the same spawns. (..., n)."""
    worst: float
    """The worst value that an episode can have."""


class Evidence(NamedTuple):
    """Against either claim about a loss: p-values (...)."""

    against_loss: np.ndarray
    """Of "the loss is its bound or more": small shows that the policy is as good."""
    against_bound: np.ndarray
    """Of "the loss is within its bound": small shows that too much is lost."""


def evidence(name: str, theirs: np.ndarray, ours: np.ndarray, worst: float) -> Evidence:
    """What pairs of episodes tell of one of ``BOUNDS``; the arguments are a :class:`Sample`'s."""
    bound = BOUNDS[name]
    if name in RATES:
        return _of_rates(theirs, ours, bound.amount)
    return _of_means(theirs, ours, bound, worst)


def _of_rates(theirs: np.ndarray, ours: np.ndarray, bound: float) -> Evidence:
    """Of a rate that should be low: the score test for paired rates (Tango 1998, equation 4).

    It has its variance at the bound and not at what was seen, so that pairs without any difference
    tell something, but not everything.
    """
    n = ours.shape[-1]
    worse = np.sum((ours > 0) & (theirs == 0), axis=-1)
    better = np.sum((ours == 0) & (theirs > 0), axis=-1)
    a, b = 2 * n, (2 * n - worse + better) * bound - worse - better
    c = -better * bound * (1 - bound)
    # Tango's estimate of the chance of a better pair, given that the loss is the bound.
    chance = (np.sqrt(b**2 - 4 * a * c) - b) / (2 * a)
    score = (worse - better - n * bound) / np.sqrt(n * (2 * chance + bound * (1 - bound)))
    unseen = np.maximum(stats.norm.cdf(score), (1 - bound) ** n)
    return Evidence(unseen, stats.norm.sf(score))


def _of_means(theirs: np.ndarray, ours: np.ndarray, bound: Bound, worst: float) -> Evidence:
    """Of a mean: paired t tests of the loss less its bound, each with one made-up pair.

    The bound is the larger of two, so losing less than either will do, and too much is what exceeds
    both. A share of the MJX mean is a contrast of each pair: the mean's own uncertainty is in it.
    The made-up pair has the largest loss possible (or gain, against the other claim): a handful of
    equal differences would else have no spread. And a loss that big may hide behind n pairs without
    any with a chance of (1 - bound / loss)^n.
    """
    n = ours.shape[-1]
    mjx = theirs.mean(axis=-1, keepdims=True)
    loss = bound.sign * (theirs - ours)
    largest = np.abs(bound.sign * (mjx - worst))
    contrasts = (
        (loss - bound.amount, bound.amount),
        (loss - bound.share * np.sign(mjx) * theirs, bound.share * np.abs(mjx)),
    )
    below, above = [], []
    for contrast, allowed in contrasts:
        below.append(_student(np.append(contrast, largest - allowed, axis=-1)))
        above.append(1 - _student(np.append(contrast, -largest - allowed, axis=-1)))
    rarest = bound.at(mjx) / np.maximum(largest, bound.at(mjx))
    hidden = (1 - rarest[..., 0]) ** n
    return Evidence(np.maximum(np.min(below, axis=0), hidden), np.max(above, axis=0))


def _student(contrast: np.ndarray) -> np.ndarray:
    """p-value (...) of "the mean is 0 or more"; contrast (..., n)."""
    n = contrast.shape[-1]
    error = contrast.std(axis=-1, ddof=1) / np.sqrt(n)
    # No spread at all is certainty; a mean of 0 is within no bound.
    statistic = contrast.mean(axis=-1) / np.maximum(error, 1e-12)
    return np.asarray(stats.t.cdf(statistic, n - 1))


def all_hold(found: Sequence[Evidence], alpha: float) -> np.ndarray:
    """Whether every loss is shown to be within its bound, bool (...).

    An intersection-union test (Berger 1982): each at the whole level, no correction needed.
    """
    return np.all([e.against_loss <= alpha for e in found], axis=0)


def beyond(found: Sequence[Evidence], alpha: float) -> np.ndarray:
    """Which losses are shown to be beyond their bounds, bool (criteria, ...), after Holm (1979)."""
    p = np.array([e.against_bound for e in found])
    order = np.argsort(p, axis=0)
    ranked = np.take_along_axis(p, order, axis=0)
    levels = alpha / np.arange(len(found), 0, -1).reshape(-1, *[1] * (p.ndim - 1))
    holds = np.logical_and.accumulate(ranked <= levels, axis=0)
    result = np.zeros_like(holds)
    np.put_along_axis(result, order, holds, axis=0)
    return result


def needed(samples: Sequence[Sample], n: int) -> int | None:
    """The size of a round that would tell, with a chance of about ``POWER``; None: hardly any.

    Asked of the same pairs, each as many times as it takes, were they to go on like that. Half the
    level is what is left for the last of several rounds.

    Args:
        samples: of each criterion, of ``n`` pairs.
        n: pairs that were played.
    """
    power = stats.norm.isf(1 - POWER)

    def surely(level: float) -> float:
        return float(stats.norm.sf(stats.norm.isf(level) + power))

    size = round_up(n + 1)
    while size <= MOST:
        places = np.arange(size) % n
        found = [evidence(name, a[places], b[places], worst) for name, a, b, worst in samples]
        too_much = min(float(e.against_bound) for e in found)
        if all_hold(found, surely(LEVEL / 2)) or too_much <= surely(LEVEL / 2 / len(found)):
            return size
        size *= 2
    return None
