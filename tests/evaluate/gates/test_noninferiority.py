"""Gate 3's tests: what they may get wrong, how often, and what they need.

`python -m pytest -s tests/evaluate/gates/test_noninferiority.py` prints the table of docs/gates.md.
"""

from typing import NamedTuple

import numpy as np
import pytest

from booster_ray.evaluate.gates import noninferiority as ni
from booster_ray.evaluate.gates.rounds import (
    EPISODES,
    LEVEL,
    MINIMUM,
    Round,
    round_up,
    schedule,
)

STUDIES = 1000
FALLS, SCORE, SURVIVAL = 0.1, 1.5, 6.0
"""In MJX: a fall rate, a mean score, s. Scores deviate by 2, survival by 1.5 s."""


class Gap(NamedTuple):
    """What a planted policy loses in one of its two sampled tasks; in the other, nothing."""

    falls: float = 0.0
    score: float = 0.0
    seconds: float = 0.0
    rare: tuple[float, float] | None = None
    """Scores all alike, but for a loss of so much with such a chance."""
    mjx_score: float = SCORE
    common: float = 0.0
    """Correlation of a score, and of survival, in the two simulators."""


class Answers(NamedTuple):
    passed: float
    failed: float
    unknown: float
    episodes: float
    """Mean, of a task, when it stopped."""


def task(rng: np.random.Generator, gap: Gap, studies: int, n: int) -> list[ni.Sample]:
    """Pairs (studies, n) of the three criteria: name, in MJX, officially, worst."""
    shape = studies, n

    def both(mean: float, loss: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
        shared, *own = rng.standard_normal((3, *shape))
        a, b = np.sqrt(gap.common), np.sqrt(1 - gap.common)
        theirs, ours = (mean + deviation * (a * shared + b * mine) for mine in own)
        return theirs, ours - loss

    fallen = (rng.random(shape) < rate for rate in (FALLS, FALLS + gap.falls))
    score = both(gap.mjx_score, gap.score, 2.0)
    if gap.rare is not None:
        chance, loss = gap.rare
        alike = np.full(shape, gap.mjx_score)
        score = alike, alike - loss * (rng.random(shape) < chance)
    return [
        ni.Sample("fallen", *(x.astype(float) for x in fallen), 1.0),
        ni.Sample("score", *score, -6.0),
        ni.Sample("seconds", *both(SURVIVAL, gap.seconds, 1.5), 0.0),
    ]


def played(gap: Gap, most: int = EPISODES, studies: int = STUDIES, seed: int = 0) -> Answers:
    """Gate 3's answers to so many policies with this gap."""
    rng = np.random.default_rng(seed)
    no_gap = Gap(mjx_score=gap.mjx_score, common=gap.common)
    samples = [*task(rng, gap, studies, most), *task(rng, no_gap, studies, most)]
    answer, stopped = np.full(studies, "?"), np.full(studies, most)
    for now in schedule(most):
        live = np.flatnonzero(answer == "?")
        if not len(live):
            break
        found = [
            ni.evidence(name, mjx[live, : now.episodes], ours[live, : now.episodes], worst)
            for name, mjx, ours, worst in samples
        ]
        failed = ni.beyond(found, now.alpha).any(axis=0)
        passed = ni.all_hold(found, now.alpha) & ~failed
        answer[live[failed]], answer[live[passed]] = "f", "p"
        stopped[live[failed | passed]] = now.episodes
    shares = (float(np.mean(answer == text)) for text in ("p", "f", "?"))
    return Answers(*shares, float(stopped.mean()))


PLANTED = {
    "nothing": Gap(),
    "nothing, half in common": Gap(common=0.5),
    "fall rate +.05": Gap(falls=0.05),
    "fall rate +.10": Gap(falls=0.1),
    "fall rate +.20 (the bound)": Gap(falls=0.2),
    "fall rate +.30": Gap(falls=0.3),
    "fall rate +.40 (twice)": Gap(falls=0.4),
    "fall rate +.50": Gap(falls=0.5),
    "score -.25": Gap(score=0.25),
    "score -.50 (the bound)": Gap(score=0.5),
    "score -.50 of 2 (both bounds)": Gap(score=0.5, mjx_score=2.0),
    "score -2 of 8 (the share)": Gap(score=2.0, mjx_score=8.0),
    "score -1 (twice)": Gap(score=1.0),
    "score -1.1": Gap(score=1.1),
    "score -2": Gap(score=2.0),
    "survival -0.6 s": Gap(seconds=0.6),
    "survival -1.2 s (the bound)": Gap(seconds=1.2),
    "survival -2.4 s (twice)": Gap(seconds=2.4),
    "score -7.5 once in 15 (the bound)": Gap(rare=(1 / 15, 7.5)),
    "score -7.5 twice in 15 (twice)": Gap(rare=(2 / 15, 7.5)),
}


@pytest.fixture(scope="module")
def table() -> dict[str, Answers]:
    told = {name: played(gap) for name, gap in PLANTED.items()}
    print(
        "\n| planted loss | passed | failed | not known | episodes a task |\n|---|---|---|---|---|"
    )
    for name, (passed, failed, unknown, n) in told.items():
        print(f"| {name} | {passed:.1%} | {failed:.1%} | {unknown:.1%} | {n:.0f} |")
    return told


def test_no_gap_passes(table: dict[str, Answers]) -> None:
    for name in ("nothing", "nothing, half in common"):
        assert table[name].passed >= 0.9 and table[name].failed <= 0.01


def test_a_gap_of_the_bound_passes_no_more_often_than_the_level(table: dict[str, Answers]) -> None:
    at = [told for name, told in table.items() if "bound" in name or "the share" in name]
    # 0.05 and three standard errors of 1,000 studies; it fails no more often either.
    assert len(at) == 6 and all(told.passed <= 0.07 and told.failed <= 0.07 for told in at)


def test_a_gap_of_twice_the_bound_does_not_pass(table: dict[str, Answers]) -> None:
    twice = [told for name, told in table.items() if "(twice)" in name]
    assert len(twice) == 4 and all(told.passed <= 0.05 for told in twice)
    assert all(told.failed >= 0.85 for told in twice)


def test_what_passed_as_by_a_coin_does_not(table: dict[str, Answers]) -> None:
    """A fall rate of .5 against .1, and a loss of 1.1, passed 43 and 63 % of the time."""
    for name in ("fall rate +.40 (twice)", "score -1.1"):
        assert table[name].passed <= 0.05


@pytest.mark.parametrize("most", [1, 2, 10, 13])
def test_with_too_few_episodes_nothing_passes(most: int) -> None:
    for gap in (Gap(falls=0.4), Gap(score=1.1), Gap()):
        assert played(gap, most, 200).passed == 0
    same = np.zeros(most)
    assert not ni.all_hold([ni.evidence("fallen", same, same, 1.0)], LEVEL)


def test_the_minimum_is_where_perfect_agreement_passes() -> None:
    same = np.zeros(MINIMUM)
    assert MINIMUM == 14
    assert ni.all_hold([ni.evidence("fallen", same, same, 1.0)], LEVEL)


def test_the_rate_test_keeps_its_level_for_every_outcome() -> None:
    """By counting all outcomes of 32 pairs, not by chance: losses of the bound pass rarely."""
    n, bound = 32, ni.RATE_BOUND
    worse, better = np.indices((n + 1, n + 1)).reshape(2, -1)
    worse, better = (x[worse + better <= n] for x in (worse, better))
    place = np.arange(n)
    ours = (place < worse[:, None]).astype(float)
    theirs = ((place >= worse[:, None]) & (place < (worse + better)[:, None])).astype(float)
    found = ni.evidence("fallen", theirs, ours, 1.0)
    logs = np.cumsum(np.log(np.maximum(np.arange(n + 1), 1)))
    counts = logs[n] - logs[worse] - logs[better] - logs[n - worse - better]
    for alpha in (LEVEL, schedule(EPISODES)[0].alpha):
        for chance in (0.0, 0.05, 0.2):
            p, q, r = bound + chance, max(chance, 1e-300), 1 - bound - 2 * chance
            likely = np.exp(
                counts + worse * np.log(p) + better * np.log(q) + (n - worse - better) * np.log(r)
            )
            assert likely.sum() == pytest.approx(1.0)
            assert likely[found.against_loss <= alpha].sum() <= 1.5 * alpha
            assert likely[found.against_bound <= alpha].sum() <= 1.5 * alpha


def test_few_equal_differences_are_no_certainty() -> None:
    """Three pairs without a difference, and three that all lose the same."""
    same = np.full(3, 1.5)
    for name, worst in (("score", -6.0), ("seconds", 0.0)):
        found = ni.evidence(name, same, same, worst)
        assert found.against_loss > LEVEL and found.against_bound > 0.5
        worse = ni.evidence(name, same, same - 1.4, worst)
        assert worse.against_bound > LEVEL / 9
    many = np.full(400, 1.5)
    assert ni.evidence("score", many, many, -6.0).against_loss < 1e-4
    assert ni.evidence("score", many, many - 1.4, -6.0).against_bound < 1e-4


def test_what_no_episode_showed_may_be_there() -> None:
    """A loss of 7.5 once in 15 is the bound; 64 pairs hide it in one of 83 tries."""
    same = np.full(64, 1.5)
    found = ni.evidence("score", same, same, -6.0)
    assert found.against_loss == pytest.approx((14 / 15) ** 64) and found.against_loss > 1 / 84


def test_the_larger_of_both_bounds_counts() -> None:
    rng = np.random.default_rng(0)
    theirs = 8 + 0.1 * rng.standard_normal(200)
    for sign in (1.0, -1.0):  # a share of the value, whatever its sign
        found = ni.evidence("score", sign * theirs, sign * theirs - 1.5, -20.0)
        assert found.against_loss < 0.01
        assert ni.evidence("score", sign * theirs, sign * theirs - 3, -20.0).against_bound < 1e-6
    small = theirs - 7
    assert ni.evidence("score", small, small - 1.5, -6.0).against_bound < 1e-6


def test_holm_goes_on_until_one_holds() -> None:
    p = [0.001, 0.02, 0.03, 0.9]
    found = [ni.Evidence(np.array(1.0), np.array(value)) for value in p]
    assert ni.beyond(found, 0.05).tolist() == [True, False, False, False]
    assert ni.beyond(found, 0.06).tolist() == [True, True, True, False]


def test_what_would_tell() -> None:
    rng = np.random.default_rng(0)
    theirs, ours = rng.normal(1.5, 2.0, (2, 64))
    ours += theirs.mean() - ours.mean()
    alike = ni.Sample("score", theirs, ours, -6.0)
    assert ni.needed([alike], 64) == 512
    assert ni.needed([alike._replace(ours=ours - 2)], 64) == 128
    assert ni.needed([alike._replace(ours=ours - 0.5)], 64) is None


def test_what_is_said_to_tell_does() -> None:
    """Of studies of 64 pairs without a loss, most are answered by as many as they ask for."""
    rng = np.random.default_rng(0)
    answered = []
    for _ in range(60):
        theirs, ours = rng.normal(1.5, 1.0, (2, 4096))
        count = ni.needed([ni.Sample("score", theirs[:64], ours[:64], -6.0)], 64)
        if count is not None and count <= 4096:
            found = ni.evidence("score", theirs[:count], ours[:count], -6.0)
            answered.append(bool(found.against_loss <= LEVEL / 2))
    assert len(answered) > 40 and np.mean(answered) > 0.7


def test_rounds_double_and_spend_the_level() -> None:
    rounds = schedule(EPISODES)
    assert [r.episodes for r in rounds] == [32, 64, 128, 256, 512]
    assert [r.alpha / LEVEL for r in rounds] == [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert schedule(10) == [Round(10, LEVEL)] and schedule(32) == [Round(32, LEVEL)]
    assert [r.episodes for r in schedule(100)] == [32, 64, 100]
    assert sum(r.alpha for r in schedule(1000)) == pytest.approx(LEVEL)
    assert [round_up(n) for n in (1, 32, 33, 300)] == [32, 32, 64, 512]
