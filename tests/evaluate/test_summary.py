"""Means and their intervals."""

import math

import numpy as np
import pytest

from booster_ray.evaluate.output import extremes, told
from booster_ray.evaluate.play import Episode
from booster_ray.evaluate.summary import estimate, summarize
from booster_ray.soccer import game
from booster_ray.soccer.scoring import WEIGHTS


def episode(task: str, seed: int, score: float, first_touch: float | None = None) -> Episode:
    terms = dict.fromkeys(WEIGHTS[task], score / len(WEIGHTS[task]))
    return Episode(
        task, seed, score, terms, seconds=1.0 + seed, fallen=1.0, success=0.0,
        touched=float(first_touch is not None), first_touch=first_touch, ball_speed=0.0,
        height=0.6, contact=0.5, torque=0.1,
    )  # fmt: skip


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = estimate(rng.normal(3.0, 2.0, 40).tolist())
        assert found["low"] is not None and found["high"] is not None
        hits += found["low"] < 3.0 < found["high"]
    assert 0.88 < hits / 200 < 0.99


def test_one_episode_has_no_interval() -> None:
    assert estimate([2.0]) == {"mean": 2.0, "low": None, "high": None}


def test_the_mean_over_tasks_weighs_tasks_not_episodes() -> None:
    found = estimate([0.0, 0.0], [1.0] * 50, [2.0, 2.0])
    assert found == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_summary_of_three_tasks() -> None:
    episodes = [episode(t, i, i + k) for k, t in enumerate(game.TASKS) for i in range(4)]
    episodes[0].first_touch, episodes[0].touched = 2.5, 1.0
    summary = summarize(episodes)
    assert summary["episodes"] == 12
    assert summary["score"]["mean"] == pytest.approx(2.5)
    goalie = summary["tasks"]["goalie"]
    assert goalie["score"]["mean"] == 1.5 and goalie["seconds"]["mean"] == 2.5
    assert goalie["first_touch"]["mean"] == 2.5 and goalie["touched"]["mean"] == 0.25
    assert summary["tasks"]["obstacle"]["first_touch"] is None
    parts = [term["mean"] for term in goalie["terms"].values()]
    assert math.fsum(parts) == pytest.approx(1.5)


def test_without_a_task_there_is_no_mean_score() -> None:
    summary = summarize([episode("goalie", 0, 1.0)])
    assert summary["score"] is None and list(summary["tasks"]) == ["goalie"]


def test_median_and_worst() -> None:
    chosen = extremes([episode("goalie", i, s) for i, s in enumerate([3.0, -1.0, 2.0])])
    assert {name: e.score for name, e in chosen.items()} == {
        "goalie-worst": -1.0,
        "goalie-median": 2.0,
    }


def test_told() -> None:
    assert told({"mean": 1.234, "low": 0.5, "high": 2.0}, "+.2f") == "+1.23 ±0.75"
    assert told({"mean": 0.5, "low": 0.25, "high": 0.75}, ".0%") == "50% ±25%"
    assert told({"mean": 1.0, "low": None, "high": None}, ".1f") == "1.0"
    assert told(None, ".1f") == "–"
