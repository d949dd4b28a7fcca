"""Means over episodes, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from booster_ray.evaluate.play import Episode
from booster_ray.soccer import game
from booster_ray.soccer.scoring import WEIGHTS

RESAMPLES = 4000
CONFIDENCE = 0.95

METRICS = (
    *("score", "seconds", "fallen", "success", "touched", "first_touch", "ball_speed"),
    *("height", "contact", "torque"),
)
"""Numbers of an episode that are averaged; ``first_touch`` over those that touched the ball."""


def summarize(episodes: Sequence[Episode]) -> dict[str, Any]:
    """JSON: per task the mean of every metric and term with its interval, and the mean score.

    Intervals are percentile bootstraps over episodes (Efron 1979), None below two of them; that
    of the mean over tasks resamples each task's episodes apart.
    """
    tasks: dict[str, Any] = {}
    for task in game.TASKS:
        mine = [e for e in episodes if e.task == task]
        if mine:
            tasks[task] = _task(mine)
    scores = [[e.score for e in episodes if e.task == task] for task in tasks]
    return {
        "episodes": len(episodes),
        "confidence": CONFIDENCE,
        "score": estimate(*scores) if len(tasks) == len(game.TASKS) else None,
        "tasks": tasks,
    }


def _task(episodes: Sequence[Episode]) -> dict[str, Any]:
    told = {name: [getattr(e, name) for e in episodes] for name in METRICS}
    known = {name: [v for v in values if v is not None] for name, values in told.items()}
    terms = {t: estimate([e.terms[t] for e in episodes]) for t in WEIGHTS[episodes[0].task]}
    return {
        "episodes": len(episodes),
        **{name: estimate(values) if values else None for name, values in known.items()},
        "terms": terms,
    }


def estimate(*groups: Sequence[float]) -> dict[str, float | None]:
    """``mean`` over groups of the mean within each, and its interval ``low`` to ``high``."""
    arrays = [np.asarray(group, float) for group in groups]
    mean = float(np.mean([a.mean() for a in arrays]))
    if min(len(a) for a in arrays) < 2:
        return {"mean": mean, "low": None, "high": None}
    rng = np.random.default_rng(0)
    means = np.mean(
        [a[rng.integers(len(a), size=(RESAMPLES, len(a)))].mean(axis=1) for a in arrays], axis=0
    )
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return {"mean": mean, "low": float(low), "high": float(high)}
