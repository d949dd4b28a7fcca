"""Differences of policies seed by seed, and how often the test is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from booster_ray.evaluate.intervals import CONFIDENCE, p_value, stratified
from booster_ray.evaluate.paired import MEAN, differences, holm
from booster_ray.evaluate.play import Episode


def episode(task: str, seed: int, score: float) -> Episode:
    return Episode(
        task, seed, score, {}, seconds=10.0, fallen=0.0, success=0.0, touched=1.0, first_touch=1.0,
        ball_speed=1.0, height=0.7, contact=1.0, torque=0.1,
    )  # fmt: skip


def whole(goalie: float, obstacle: Sequence[float], kick: Sequence[float]) -> list[Episode]:
    return [
        episode("goalie", 1000, goalie),
        *(episode("obstacle", i, score) for i, score in enumerate(obstacle)),
        *(episode("kick_to_target", i, score) for i, score in enumerate(kick)),
    ]


def test_it_is_the_paired_t_test_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 3, 12), rng.normal(0.5, 3, 12)
    found = differences(
        [episode("obstacle", i, s) for i, s in enumerate(a)],
        [episode("obstacle", i, s) for i, s in reversed(list(enumerate(b)))],
    )
    assert set(found) == {"obstacle"}
    theirs = stats.ttest_rel(b, a)
    low, high = theirs.confidence_interval(CONFIDENCE)
    told = found["obstacle"]
    assert told.p == pytest.approx(theirs.pvalue)
    assert told.estimate == pytest.approx((np.mean(b - a), low, high))
    assert (told.pairs, told.equal, told.exact) == (12, 0, False)


def test_a_task_that_always_goes_the_same_way_is_known() -> None:
    first = whole(10.0, [1.0, 2.0, 4.0], [0.0, 1.0, 0.5])
    second = whole(12.0, [2.0, 2.5, 6.0], [0.0, 1.0, 0.5])
    found = differences(first, second)
    assert found["goalie"].exact and found["goalie"].estimate == (2.0, None, None)
    assert found["kick_to_target"].equal == 3 and found["kick_to_target"].p is None
    mean = found[MEAN]
    assert mean.estimate.mean == pytest.approx((2.0 + 3.5 / 3 + 0.0) / 3)
    assert mean.pairs == 7 and mean.p is not None and mean.p < 0.05
    assert all(one.equal == one.pairs for one in differences(first, first).values())


def test_an_episode_that_tells_all_is_paired_with_each_of_a_policy_that_draws() -> None:
    fixed = [episode("goalie", 1000, 10.0)]
    drawn = [episode("goalie", 5 + i, score) for i, score in enumerate([9.0, 10.0, 12.0])]
    found = differences(fixed, drawn)["goalie"]
    assert (found.pairs, found.exact) == (3, False)
    assert found.estimate.mean == pytest.approx(1 / 3)


def test_episodes_of_other_seeds_are_no_pairs() -> None:
    assert differences(whole(1, [1, 2], [1, 2])[1:3], [episode("obstacle", 7, 1.0)]) == {}


def test_the_p_value_and_the_interval_say_the_same() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        groups = [rng.normal(0.4, 1, 6), rng.normal(0.2, 2, 9)]
        estimate, p = stratified(groups), p_value(groups)
        assert p is not None and estimate.low is not None and estimate.high is not None
        assert (p < 1 - CONFIDENCE) == (estimate.low > 0 or estimate.high < 0)
    assert p_value([[1.0, 1.0]]) is None and p_value([[1.0]]) is None


@pytest.mark.parametrize("n", [10, 20])
def test_equal_policies_are_seldom_told_apart(n: int) -> None:
    """Scores of kicks that hit or miss, where two policies differ by chance alone."""
    rng = np.random.default_rng(n)
    wrong, rounds = 0, 2000
    for _ in range(rounds):
        spawn = rng.uniform(0.3, 0.9, n)  # how hard each is, the same for both
        hits = [np.where(rng.random(n) < spawn, 9.0, -1.0) + rng.normal(0, 1, n) for _ in "ab"]
        p = p_value([hits[1] - hits[0], rng.normal(0, 1, n) - rng.normal(0, 1, n), [0.0]],
                    [False, False, True])  # fmt: skip
        wrong += p is not None and p < 1 - CONFIDENCE
    assert 0.03 < wrong / rounds < 0.065


def test_holm() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": None, "d": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": None, "d": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
