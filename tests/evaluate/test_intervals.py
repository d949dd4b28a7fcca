"""Intervals hold the truth as often as they say: counted, at ten and twenty episodes."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from booster_ray.evaluate.intervals import (
    Estimate,
    interquartile_mean,
    mean,
    rate,
    scaled,
    stratified,
)

DRAWS = 2000
LEAST = 0.93


def share(found: list[Estimate], truth: float) -> float:
    """Of the intervals that hold ``truth``; one that is missing does not."""
    sides = [(e.low, e.high) for e in found]
    return float(np.mean([low is not None and low <= truth <= high for low, high in sides]))


@cache
def told(n: int, ones: int) -> Estimate:
    return rate([1.0] * ones + [0.0] * (n - ones))


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("truth", [0.05, 0.1, 0.3, 0.5])
def test_rates(n: int, truth: float) -> None:
    drawn = np.random.default_rng(0).binomial(n, truth, DRAWS)
    assert share([told(n, int(ones)) for ones in drawn], truth) >= LEAST
    # And of all that could be drawn, without chance.
    chances = stats.binom.pmf(np.arange(n + 1), n, truth)
    holds = [share([told(n, ones)], truth) for ones in range(n + 1)]
    assert float(np.dot(chances, holds)) >= LEAST


@pytest.mark.parametrize("n", [10, 20])
def test_means(n: int) -> None:
    drawn = np.random.default_rng(0).normal(3.0, 2.0, (DRAWS, n))
    assert LEAST <= share([mean(row) for row in drawn], 3.0) <= 0.97


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("one_is_exact", [False, True])
def test_means_over_three_tasks(n: int, one_is_exact: bool) -> None:
    """Of unequal spread, one of them perhaps played once and known."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(m, s, (DRAWS, n)) for m, s in ((15.0, 0.5), (8.0, 1.3), (0.5, 4.0)))
    if one_is_exact:
        a = np.full((DRAWS, 1), 15.0)
    exact = [one_is_exact, False, False]
    found = [stratified(groups, exact) for groups in zip(a, b, c, strict=True)]
    assert LEAST <= share(found, 23.5 / 3) <= 0.975


@pytest.mark.parametrize(
    ("n", "least", "most"), [(3, 0.70, 0.80), (5, 0.85, 0.94), (10, 0.90, 0.97), (20, 0.90, 0.98)]
)
def test_interquartile_means_of_few_and_of_enough_runs(n: int, least: float, most: float) -> None:
    """With few the interval is too narrow, by as much as its docstring says."""
    drawn = np.random.default_rng(0).normal(3.0, 2.0, (400, n))
    assert least <= share([interquartile_mean([row]) for row in drawn], 3.0) <= most


def test_interquartile_means_over_strata() -> None:
    """Groups of unequal places: what lies between them is no spread of the mean's."""
    rng = np.random.default_rng(0)
    drawn = zip(*(rng.normal(m, 1.0, (300, 10)) for m in (-9.0, 0.0, 9.0)), strict=True)
    found = [interquartile_mean(groups) for groups in drawn]
    # Of 30 numbers the middle 16: all ten in the middle, three of each side.
    pooled = np.sort(np.concatenate([rng.normal(m, 1.0, (20000, 10)) for m in (-9.0, 0.0, 9.0)], 1))
    assert LEAST - 0.08 <= share(found, float(pooled[:, 7:23].mean())) <= 0.99
    alone = [interquartile_mean([np.concatenate(groups)]) for groups in [([-9.0] * 9, [9.0] * 9)]]
    apart = interquartile_mean([[-9.0, -9.1] * 5, [9.0, 9.1] * 5])
    assert alone[0].high is not None and apart.high is not None
    assert alone[0].high > 4 and abs(apart.high) < 0.1


def test_one_run_that_comes_to_nothing_does_not_decide() -> None:
    assert interquartile_mean([[5.0, 5.1, 5.2, -100.0]]).mean == pytest.approx(5.05)
    found = interquartile_mean([[1.0, 2.0, 6.0]])
    assert found.mean == 3.0 and (found.low, found.high) == (1.0, 6.0)
    assert found == interquartile_mean([[1.0, 2.0, 6.0]])
    assert interquartile_mean([[2.0, 2.0, 2.0]]) == Estimate(2.0)


def test_student_covers_better_than_bca() -> None:
    """Why means are not bootstrapped."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.0, 1.0, (300, 10))
    bca = stats.bootstrap(
        (drawn,), np.mean, axis=1, method="BCa", n_resamples=1000, rng=rng
    ).confidence_interval
    assert np.mean((bca.low <= 0) & (bca.high >= 0)) < share([mean(r) for r in drawn], 0.0)


def test_ten_episodes_without_a_fall_may_hide_some() -> None:
    found = rate([0.0] * 10)
    assert found.mean == found.low == 0.0 and found.high == pytest.approx(0.345, abs=0.001)
    only = rate([1.0])
    assert only.high == 1.0 and only.low is not None and only.low < 0.1


def test_what_shows_no_spread_has_no_interval() -> None:
    assert mean([2.0]) == mean([2.0, 2.0]) == mean([0.1] * 7)._replace(mean=2.0) == Estimate(2.0)
    assert stratified([[1.0, 2.0], [3.0]]) == Estimate(2.25)
    assert stratified([[1.0], [3.0]], [True, True]) == Estimate(2.0)


def test_an_interval_ends_where_values_do() -> None:
    found = mean([9.0, 10.0, 10.0], within=(0.0, 10.0))
    assert found.high == 10.0 and found.low is not None and found.low < 9.0


def test_of_a_multiple() -> None:
    assert scaled(Estimate(0.5, 0.25, 1.0), -2.0) == Estimate(-1.0, -2.0, -0.5)
    assert scaled(Estimate(0.5), 3.0) == Estimate(1.5)
