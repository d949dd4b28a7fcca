"""Metrics of the reward terms, from the records of ended episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.rewards import RECORDED


def reward_metrics(episodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """``reward/TERM``, the mean sum of weight · term of an episode, and ``reward/TERM/TASK``.

    A record without a term, of an environment that has none or of an earlier release, is no part
    of the term's mean.
    """
    metrics: dict[str, float] = {}
    for name in sorted({name for one in episodes for name in one if name.startswith(RECORDED)}):
        told = [one for one in episodes if name in one]
        metric = f"reward/{name.removeprefix(RECORDED)}"
        metrics[metric] = float(np.mean([one[name] for one in told]))
        for task in sorted({int(one["task"]) for one in told}):
            mine = [one[name] for one in told if one["task"] == task]
            metrics[f"{metric}/{game.TASKS[task]}"] = float(np.mean(mine))
    return metrics
