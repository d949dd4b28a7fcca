"""Which policies become versions, over random runs."""

import math
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from booster_ray.config.models import Models, value
from booster_ray.track.versions import BEST, CANDIDATES, LATEST, Standing, changes, due, refusal

rates = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
numbers = st.one_of(st.floats(-3, 9, width=16), st.sampled_from([math.nan, math.inf, -math.inf]))


@st.composite
def evaluations(draw: st.DrawFn) -> dict[str, float]:
    """What one evaluation says; a task may have left no record."""
    scores = {"score": draw(numbers)}
    for task in ("goalie", "obstacle", "kick_to_target"):
        if draw(st.booleans()):
            scores |= {f"success/{task}": draw(rates), f"survival/{task}": draw(numbers)}
    if draw(st.booleans()) and draw(st.booleans()):
        del scores["score"]
    return scores


policies = st.lists(
    st.tuples(
        evaluations(),
        st.sampled_from(["pretrain", "finetune"]),
        st.integers(0, 12),  # equal digests: the same policy is offered again
        st.booleans(),  # whether a person promotes the newest version after it
    ),
    max_size=25,
)
rules = st.builds(
    Models,
    metric=st.sampled_from(["score", "success", "survival/goalie", "success/obstacle"]),
    minimum_score=st.none() | st.floats(-3, 9, width=16),
    minimum_success_rate=st.none() | rates,
    keep=st.integers(1, 4),
)


class Shelf:
    """A registry in memory, kept by the rules as the real ones are."""

    def __init__(self, settings: Models) -> None:
        self.settings = settings
        self.kept: list[Standing] = []
        self.aliases: dict[str, int] = {}
        self.made: list[Standing] = []

    def offer(self, scores: dict[str, float], stage: str, digest: str) -> str | None:
        if why := refusal(self.settings, scores, digest, self.kept):
            return why
        self.made.append(Standing(len(self.made) + 1, stage, digest, scores))
        self.kept.append(self.made[-1])
        told = changes(self.settings, self.kept)
        self.aliases |= told.aliases
        self.kept = [one for one in self.kept if one.version not in told.remove]
        return None

    def promote(self) -> None:
        self.kept[-1:] = [one._replace(held=True) for one in self.kept[-1:]]


@given(rules, policies)
def test_thresholds_aliases_and_removals_hold_for_any_run(
    settings: Models, offered: list[Any]
) -> None:
    shelf, held = Shelf(settings), set()
    for scores, stage, digest, promoted in offered:
        present = {one.digest for one in shelf.kept}
        refused = shelf.offer(scores, stage, str(digest))
        worthy = value(scores, settings.metric) is not None and all(
            least is None or (value(scores, name) is not None and value(scores, name) >= least)
            for name, least in (
                ("score", settings.minimum_score),
                ("success", settings.minimum_success_rate),
            )
        )
        assert (refused is None) == (worthy and str(digest) not in present)
        if promoted and shelf.kept:
            shelf.promote()
            held.add(shelf.kept[-1].version)
        _check(shelf, held)


def _check(shelf: Shelf, held: set[int]) -> None:
    metric, here = shelf.settings.metric, {one.version for one in shelf.kept}
    # Nothing with an alias, nor a champion, is ever removed; of the rest the newest stay.
    newest = {one.version for one in shelf.made[-shelf.settings.keep :]}
    assert here == newest | set(shelf.aliases.values()) | held
    if not shelf.made:
        assert not shelf.aliases
        return
    assert shelf.aliases[LATEST] == len(shelf.made)
    # The best of all that ever was a version, not only of those that are left.
    groups = {BEST: shelf.made}
    groups |= {a: [v for v in shelf.made if v.stage == s] for s, a in CANDIDATES.items()}
    for alias, group in groups.items():
        if not group:
            assert alias not in shelf.aliases
            continue
        top = max(value(one.scores, metric) for one in group)  # type: ignore[type-var]
        first = next(one for one in group if value(one.scores, metric) == top)
        assert shelf.aliases[alias] == first.version


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=40),
    st.integers(1, 2000),
    st.integers(0, 5),
)
def test_every_nth_checkpoint_however_often_it_is_looked(
    strides: list[int], cadence: int, every: int
) -> None:
    """Stops and resumes between looks change nothing: the count goes by env steps alone."""
    looks = [0]
    for stride in strides:
        looks.append(looks[-1] + stride)
    counted = sum(due(before, now, cadence, every) for before, now in pairwise(looks))
    if every == 0:
        assert counted == 0
        return
    period = cadence * every
    # None is missed and none counted twice; a look that spans several periods counts once.
    passed = {step // period for step in looks} - {0}
    assert counted == len(passed) <= looks[-1] // period
    if looks[-1] < 500:
        by_step = range(looks[-1] + 1)
        fine = sum(due(a, b, cadence, every) for a, b in pairwise(by_step))
        assert fine == looks[-1] // period


def test_success_is_the_mean_over_tasks_and_unknown_without_any() -> None:
    assert value({"success/goalie": 1.0, "success/obstacle": 0.5}, "success") == 0.75
    assert value({"score": 1.0}, "success") is None
    assert value({"score": math.nan}, "score") is None


def test_a_refusal_says_why() -> None:
    settings = Models(minimum_score=1.0, minimum_success_rate=0.5)
    assert "score 0.2 is below the minimum 1" in str(refusal(settings, {"score": 0.2}, "a", []))
    assert "success unknown is below" in str(refusal(settings, {"score": 2.0}, "a", []))
    good = {"score": 2.0, "success/goalie": 0.5}
    assert refusal(settings, good, "a", []) is None
    assert "version 3 already" in str(refusal(settings, good, "a", [Standing(3, "x", "a", good)]))
    assert "no finite score" in str(refusal(Models(), {"score": math.inf}, "a", []))
