"""Means and their intervals."""

import dataclasses
import io
import math

import pytest
from rich.console import Console
from rich.table import Table

from booster_ray.evaluate.output import extremes, table, told
from booster_ray.evaluate.play import Episode, Measures, lost
from booster_ray.evaluate.summary import summarize
from booster_ray.soccer import game
from booster_ray.soccer.scoring import WEIGHTS


def episode(task: str, seed: int, score: float, first_touch: float | None = None) -> Episode:
    measured = "distance" if task == "kick_to_target" else "ball_vel_twd_goal"
    terms = dict.fromkeys(WEIGHTS[task], 0.0) | {measured: float(score)}
    return Episode(
        task, seed, score, terms, seconds=1.0 + seed, fallen=1.0, success=0.0,
        touched=float(first_touch is not None), first_touch=first_touch, ball_speed=0.0,
        height=0.6, contact=0.5, torque=0.1,
    )  # fmt: skip


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


def test_of_one_episode_a_deterministic_task_has_no_median_beside_a_worst() -> None:
    assert list(extremes([episode("goalie", 0, 1.0)])) == ["goalie-median"]
    gone = dataclasses.replace(episode("goalie", 0, -6.0), lost=True)
    assert list(extremes([gone, episode("goalie", 1, 1.0)])) == ["goalie-median"]


def test_a_task_that_draws_nothing_is_told_as_known() -> None:
    alike = [episode("goalie", 0, 3.0) for _ in range(20)]
    summary = summarize([*alike, *(episode("obstacle", i, i) for i in range(4))])
    goalie, obstacle = summary["tasks"]["goalie"], summary["tasks"]["obstacle"]
    assert goalie["deterministic"] and not obstacle["deterministic"]
    for name in ("score", "fallen", "seconds"):
        assert goalie[name]["low"] is goalie[name]["high"] is None
        assert obstacle[name]["low"] < obstacle[name]["high"]
    shown = text(table("x", summary))
    assert "deterministic" in shown and "4 episodes" in shown and "100% [40%, 100%]" in shown


def test_a_policy_with_chance_of_its_own_is_no_deterministic_task() -> None:
    summary = summarize([episode("goalie", i, 3.0 + i) for i in range(3)])
    goalie = summary["tasks"]["goalie"]
    assert not goalie["deterministic"] and goalie["score"]["low"] < 4.0 < goalie["score"]["high"]


def test_ten_episodes_without_a_fall_are_not_sure_of_it() -> None:
    episodes = [dataclasses.replace(episode("obstacle", i, i), fallen=0.0) for i in range(10)]
    for one in episodes:
        one.terms["robot_fallen"] = -0.0  # a weight of -1.5 times no fall
    told_ = summarize(episodes)["tasks"]["obstacle"]
    assert told_["fallen"]["high"] == pytest.approx(0.345, abs=0.001)
    assert told_["terms"]["robot_fallen"]["low"] == pytest.approx(-1.5 * 0.345, abs=0.002)
    assert "±" not in text(table("x", summarize(episodes)))


def test_the_mean_over_tasks_is_as_sure_as_what_was_drawn() -> None:
    drawn = [episode(t, i, i) for t in ("obstacle", "kick_to_target") for i in range(6)]
    sure = summarize([episode("goalie", 0, 15.0), *drawn])["score"]
    assert sure["mean"] == pytest.approx(20 / 3) and sure["low"] < 20 / 3 < sure["high"]
    unknown = summarize([*drawn[:7], episode("goalie", 0, 15.0)])["score"]
    assert unknown["low"] is None  # one episode of a task that draws its spawn


def test_lost_episodes_are_counted() -> None:
    gone = lost("kick_to_target", 3, Measures(1).of(0))
    assert gone.score == pytest.approx(sum(gone.terms.values())) == pytest.approx(-1.3)
    assert gone.fallen == 1.0 and not gone.success
    assert lost("obstacle", 3, Measures(1).of(0)).score == -6.0
    summary = summarize([episode("kick_to_target", 0, 1.0), gone])
    assert summary["lost"] == 1 and summary["tasks"]["kick_to_target"]["score"]["mean"] < 0


def text(shown: Table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_told() -> None:
    assert told({"mean": 1.234, "low": 0.5, "high": 2.0}, "+.2f") == "+1.23 [0.50, 2.00]"
    assert told({"mean": 0.0, "low": 0.0, "high": 0.31}, ".0%") == "0% [0%, 31%]"
    assert told({"mean": -0.0, "low": -0.049, "high": -0.0}, "+.1f") == "+0.0 [0.0, 0.0]"
    assert told({"mean": 1.0, "low": None, "high": None}, ".1f") == "1.0"
    assert told(None, ".1f") == "–"
