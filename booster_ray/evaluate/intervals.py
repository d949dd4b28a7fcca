"""Intervals of rates and means over episodes, each with a coverage that was measured.

They hold the truth as often as they say at ten episodes already, but for what is said of fewer
training runs at :func:`interquartile_mean`: tests/evaluate/test_intervals.py counts. BCa bootstraps
(Efron 1987) were tried for the means and cover less than Student's t at ten and twenty episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
TRIMMED = 0.25
"""Of numbers in order, the share that an interquartile mean leaves out at each end."""
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A mean and its two-sided interval at ``CONFIDENCE``."""

    mean: float
    low: float | None = None
    """None, as ``high``: what was seen does not tell how sure the mean is."""
    high: float | None = None


def rate(values: Sequence[float]) -> Estimate:
    """Share of ones among zeros and ones: Wilson's interval with continuity correction.

    Without the correction (Newcombe 1998, methods 3 and 4) ten episodes of a rate of 0.05 are
    covered 91 % of the time. One episode has an interval too, a wide one.
    """
    array = np.asarray(values, float)
    told = stats.binomtest(round(array.sum()), len(array))
    low, high = told.proportion_ci(CONFIDENCE, method="wilsoncc")
    return Estimate(float(array.mean()), float(low), float(high))


def mean(values: Sequence[float], within: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Mean of measured numbers: Student's t.

    No interval where fewer than two differ: equal numbers show no spread to judge by.

    Args:
        values: at least one.
        within: what values are possible; the interval is cut there.
    """
    return stratified([values], within=within)


def stratified(
    groups: Sequence[Sequence[float]],
    exact: Sequence[bool] | None = None,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Mean over groups of the mean within each: t with Welch and Satterthwaite's degrees.

    The variance is that of a stratified mean, sum of s²/n over the groups' number squared; its
    degrees of freedom are Satterthwaite's (1946).

    Args:
        groups: numbers of each group, at least one.
        exact: which groups' means are known and no estimates; none by default.
        within: what values are possible; the interval is cut there.
    """
    told, error, degrees = _spread(groups, exact)
    if not error:
        return Estimate(told)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * error / len(groups)
    low, high = np.clip([told - half, told + half], *within)
    return Estimate(told, float(low), float(high))


def p_value(groups: Sequence[Sequence[float]], exact: Sequence[bool] | None = None) -> float | None:
    """Of "the mean over groups is 0", two-sided, by the same t as :func:`stratified`.

    It is below 1 - ``CONFIDENCE`` where that interval leaves 0 out, and nowhere else. None, as
    there: the numbers show no spread to judge by.
    """
    told, error, degrees = _spread(groups, exact)
    return float(2 * stats.t.sf(abs(told) * len(groups) / error, degrees)) if error else None


def _spread(
    groups: Sequence[Sequence[float]], exact: Sequence[bool] | None
) -> tuple[float, float, float]:
    """A stratified mean; its standard error times the number of groups, 0: unknown; its degrees."""
    arrays = [np.asarray(group, float) for group in groups]
    told = float(np.mean([a.mean() for a in arrays]))
    known = exact or [False] * len(arrays)
    drawn = [a for a, is_known in zip(arrays, known, strict=True) if not is_known]
    if not drawn or min(len(a) for a in drawn) < 2:
        return told, 0.0, 0.0
    part = np.array([a.var(ddof=1) / len(a) for a in drawn])
    # Rounding gives equal numbers a variance near 1e-33.
    part = np.where([np.ptp(a) == 0 for a in drawn], 0.0, part)
    if not part.any():
        return told, 0.0, 0.0
    degrees = part.sum() ** 2 / np.sum(part**2 / np.array([len(a) - 1 for a in drawn]))
    return told, float(np.sqrt(part.sum())), float(degrees)


def interquartile_mean(groups: Sequence[Sequence[float]]) -> Estimate:
    """Mean of the middle half of all numbers (IQM), with a stratified bootstrap's percentiles.

    For scores of a few training runs (Agarwal et al. 2021): one run that has come to nothing, or
    was lucky, does not decide. Each group is drawn anew with replacement within itself. A few
    numbers show too little of the spread: where they are normal, the interval at 95 % holds the
    truth 74 % of the time with 3 of them, 90 % with 5, 94 % with 10 and 20.

    No interval where fewer than two numbers differ.

    Args:
        groups: at least one number in each.
    """
    arrays = [np.asarray(group, float) for group in groups]
    told = float(stats.trim_mean(np.concatenate(arrays), TRIMMED))
    if all(np.ptp(array) == 0 for array in arrays):
        return Estimate(told)
    # Seeded, so that a report that is made again says the same.
    rng = np.random.default_rng(0)
    drawn = [rng.choice(array, (RESAMPLES, len(array))) for array in arrays]
    means = stats.trim_mean(np.concatenate(drawn, axis=1), TRIMMED, axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(told, float(low), float(high))


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate of ``factor`` times the number."""
    if estimate.low is None or estimate.high is None:
        return Estimate(factor * estimate.mean)
    low, high = sorted((factor * estimate.low, factor * estimate.high))
    return Estimate(factor * estimate.mean, low, high)
