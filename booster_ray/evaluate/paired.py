"""How much one policy's official score differs from another's, on episodes of the same seeds.

A seed decides a spawn, and spawns differ more than policies do: differences seed by seed show with
a handful of episodes what means over different seeds would hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from booster_ray.evaluate.intervals import Estimate, p_value, stratified
from booster_ray.evaluate.play import Episode
from booster_ray.evaluate.summary import is_deterministic
from booster_ray.soccer import game

MEAN = "mean"
"""The key of the mean over tasks, the competition's score."""


class Difference(NamedTuple):
    """Of official scores, the second policy's less the first's."""

    estimate: Estimate
    """Its mean, with an interval where the pairs show a spread."""
    p: float | None
    """Of a paired t test of "they score the same"; None: the pairs show no spread, or one pair."""
    pairs: int
    exact: bool
    """Whether all is known: a task that always goes the same way, for both."""
    equal: int
    """Pairs whose scores are equal."""


def differences(first: Sequence[Episode], second: Sequence[Episode]) -> dict[str, Difference]:
    """By task, and ``mean`` where all three tasks have pairs; tasks without pairs are left out.

    Episodes are paired by task and seed. Of a task that always goes the same way one episode tells
    all: it is paired with every seed of the other policy, which may draw random numbers.
    """
    paired = {task: _paired(first, second, task) for task in game.TASKS}
    paired = {task: one for task, one in paired.items() if one[0]}
    found = {task: _difference([values], [exact]) for task, (values, exact) in paired.items()}
    if len(found) == len(game.TASKS):
        groups, exact = zip(*paired.values(), strict=True)
        found[MEAN] = _difference(groups, exact)
    return found


def _paired(
    first: Sequence[Episode], second: Sequence[Episode], task: str
) -> tuple[list[float], bool]:
    """The differences of a task's pairs, and whether they are known and no estimates."""
    sides = [[e for e in side if e.task == task] for side in (first, second)]
    if not all(sides):
        return [], False
    fixed = [is_deterministic(side) for side in sides]
    if all(fixed):
        return [sides[1][0].score - sides[0][0].score], True
    scores = [{e.seed: e.score for e in side} for side in sides]
    for i in (0, 1):
        if fixed[i]:
            scores[i] = dict.fromkeys(scores[1 - i], sides[i][0].score)
    common = sorted(scores[0].keys() & scores[1].keys())
    return [scores[1][seed] - scores[0][seed] for seed in common], False


def _difference(groups: Sequence[Sequence[float]], exact: Sequence[bool]) -> Difference:
    every = [value for group in groups for value in group]
    return Difference(
        stratified(groups, exact),
        p_value(groups, exact),
        len(every),
        all(exact),
        sum(value == 0 for value in every),
    )


def holm(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """p-values adjusted for their number (Holm 1979); what is unknown stays so and counts not."""
    known = sorted((p, name) for name, p in values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(values)
    highest = 0.0
    for place, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[name] = highest
    return adjusted
