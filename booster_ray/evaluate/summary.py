"""Means over episodes, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from booster_ray.evaluate.intervals import CONFIDENCE, Estimate, mean, rate, scaled, stratified
from booster_ray.evaluate.play import Episode
from booster_ray.soccer import game, spawn
from booster_ray.soccer.scoring import OUTCOMES, WEIGHTS

RATES = ("fallen", "success", "touched")
"""Numbers of an episode that are 0 or 1."""

_SECONDS = (0.0, game.EPISODE_STEPS * game.TIMESTEP)

MEASURED = {
    "score": (-np.inf, np.inf),
    "seconds": _SECONDS,
    "first_touch": _SECONDS,
    "ball_speed": (0.0, np.inf),
    "goal_speed": (-np.inf, np.inf),
    "height": (-np.inf, np.inf),
    "contact": (0.0, 1.0),
    "torque": (0.0, 1.0),
}
"""Numbers of an episode that are measured, with the values that are possible; ``first_touch`` is
averaged over those that touched the ball."""


def summarize(episodes: Sequence[Episode]) -> dict[str, Any]:
    """JSON: per task the mean of every metric and term with its interval, and the mean score.

    Intervals are those of :mod:`booster_ray.evaluate.intervals`. A task whose spawn draws nothing
    and whose episodes are all equal is ``deterministic``: its numbers are known, they have no
    interval, and in the mean over tasks they are sure. ``lost`` counts episodes whose physics was
    lost, which count as the worst outcome.
    """
    played = {task: [e for e in episodes if e.task == task] for task in game.TASKS}
    played = {task: mine for task, mine in played.items() if mine}
    scores = [[e.score for e in mine] for mine in played.values()]
    exact = [is_deterministic(mine) for mine in played.values()]
    whole = len(played) == len(game.TASKS)
    return {
        "episodes": len(episodes),
        "lost": sum(e.lost for e in episodes),
        "confidence": CONFIDENCE,
        "score": stratified(scores, exact)._asdict() if whole else None,
        "tasks": {task: _task(mine) for task, mine in played.items()},
    }


def is_deterministic(episodes: Sequence[Episode]) -> bool:
    """Whether one task's episodes could not have come out otherwise.

    A policy that draws random numbers of its own plays a task unlike itself though the spawn is
    always the same; then its episodes differ.
    """
    same = len({(e.score, e.seconds) for e in episodes}) == 1
    return same and episodes[0].task in spawn.DETERMINISTIC


def _task(episodes: Sequence[Episode]) -> dict[str, Any]:
    known = is_deterministic(episodes)
    told: dict[str, Any] = {"episodes": len(episodes), "deterministic": known}
    for name in (*MEASURED, *RATES):
        values = [v for v in (getattr(e, name) for e in episodes) if v is not None]
        told[name] = _estimate(name, values, known)._asdict() if values else None
    terms = {}
    for name, weight in WEIGHTS[episodes[0].task].items():
        values = [e.terms[name] for e in episodes]
        terms[name] = _term(name, weight, values, known)._asdict()
    return told | {"terms": terms}


def _estimate(name: str, values: Sequence[float], known: bool) -> Estimate:
    if known:
        return Estimate(float(values[0]))
    return rate(values) if name in RATES else mean(values, MEASURED[name])


def _term(name: str, weight: float, values: Sequence[float], known: bool) -> Estimate:
    """What a term gives of the score: weight times a rate, or a mean."""
    if known:
        return Estimate(float(values[0]))
    if name in OUTCOMES:
        return scaled(rate([v / weight for v in values]), weight)
    return mean(values)
