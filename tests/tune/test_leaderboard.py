import io
import json
import math
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from booster_ray.store.progress import History
from booster_ray.tune.leaderboard import (
    comparison_rows,
    comparison_table,
    count,
    leaderboard_json,
    leaderboard_markdown,
    leaderboard_table,
    short_names,
    value,
)
from booster_ray.tune.records import TrialRecord

EVALUATED = {
    "env_steps": 500_000.0,
    "score": -0.4,
    "score/goalie": -0.1,
    "score/obstacle": -0.5,
    "score/kick_to_target": -0.6,
    "survival/goalie": 9.6,
    "survival/obstacle": math.nan,
}


def trial(number: int, *reports: dict[str, float], **params: object) -> TrialRecord:
    return TrialRecord(
        trial_id=f"t[{number}]",
        number=number,
        status="TERMINATED",
        params=params,
        history=History(reports),
        target_env_steps=500_000,
        checkpoint=None,
        error=None,
        started=True,
    )


def text(table: Table, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_table_fits_80_columns_and_keeps_brackets() -> None:
    records = [
        trial(0, kind="[red]x[/nonsense]"),
        trial(1, EVALUATED, actor_lr=3.44e-4, level=2),
    ]
    shown = text(leaderboard_table(records))
    assert shown.index("t[1]") < shown.index("t[0]")
    for part in ("TERMINATED", "-0.400", "-0.10", "9.6", "500k", "actor_lr 0.000344", "[red]x[/"):
        assert part in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_table_without_trials() -> None:
    assert "Leaderboard" in text(leaderboard_table([]))


def test_json_is_strict_and_ranked() -> None:
    rows = leaderboard_json([trial(0, {"score": math.nan}, x=math.nan), trial(1, EVALUATED)])
    json.dumps(rows, allow_nan=False)
    assert [(row["rank"], row["number"], row["score"]) for row in rows] == [
        (1, 1, -0.4),
        (2, 0, None),
    ]
    assert rows[0]["best_env_steps"] == 500_000
    assert rows[0]["tasks"]["goalie"] == {"score": -0.1, "survival": 9.6, "fall_rate": None}
    assert rows[0]["tasks"]["obstacle"]["survival"] is None


def test_markdown_has_a_column_per_parameter_and_escapes_pipes() -> None:
    lines = leaderboard_markdown([trial(0, EVALUATED, a="x|y\nz"), trial(1, b=1)]).splitlines()
    assert len(lines) == 4
    assert {line.replace("\\|", "").count("|") for line in lines} == {14}
    assert lines[2].endswith("| 500,000 | x\\|y z | – |")


def test_comparison_prints_both_policies_and_their_mean() -> None:
    untrained = {"goalie": {"score": -2.0, "survival": 1.0, "fall_rate": 1.0}, "obstacle": {}}
    trained = {
        "goalie": {"score": -0.4, "survival": 9.6, "fall_rate": 0.1},
        "obstacle": {"score": -0.2, "survival": math.nan, "fall_rate": 0.3},
    }
    assert comparison_rows(untrained, trained) == [
        ["goalie", "-2.00", "-0.40", "1.0", "9.6", "100%", "10%"],
        ["obstacle", "–", "-0.20", "–", "–", "–", "30%"],
        ["mean", "–", "-0.30", "–", "–", "–", "20%"],
    ]
    assert "-0.40" in text(comparison_table(untrained, trained))
    comparison_table({}, {})


def test_short_names_are_the_shortest_unique_tails() -> None:
    assert short_names(["sac.actor.lr", "sac.critic.lr", "level", "a.level", "seed"]) == {
        "sac.actor.lr": "actor.lr",
        "sac.critic.lr": "critic.lr",
        "level": "level",
        "a.level": "a.level",
        "seed": "seed",
    }


def test_counts_and_values() -> None:
    counts = [0, 999, 1000, 12_800, 999_499, 999_600, 1_250_000, 2e9]
    assert [count(n) for n in counts] == ["0", "999", "1k", "12.8k", "999k", "1M", "1.25M", "2G"]
    assert [value(v) for v in (3e-5, 256, True, None, math.nan)] == [
        "3e-05",
        "256",
        "True",
        "None",
        "None",
    ]


def test_two_objectives_show_the_pareto_front() -> None:
    pairs = [(1.0, -1.0), (0.5, 0.0), (0.4, -0.5), (2.0, None)]
    records = [
        replace(trial(n, {"env_steps": 1.0, "score": s}), robustness=r)
        for n, (s, r) in enumerate(pairs)
    ]
    assert {row["number"] for row in leaderboard_json(records) if row["pareto"]} == {0, 1}
    shown = text(leaderboard_table(records))
    assert shown.count("*") == 3 and "-0.500" in shown  # two rows and the caption
    lines = leaderboard_markdown(records).splitlines()
    assert "| robustness | front |" in lines[0] and lines[3].count("*") == 1
    assert "robustness" not in leaderboard_markdown(records[3:])


def test_an_experiment_stands_beside_its_trial_and_not_among_its_settings() -> None:
    records = [trial(0, EVALUATED, experiment="plain"), trial(1, experiment="a|b", tau=0.5)]
    header, _, first, second = leaderboard_markdown(records).splitlines()
    assert header.startswith("| rank | trial | experiment | status | score |")
    assert header.count("experiment") == 1 and header.endswith("| env steps | tau |")
    assert first.startswith("| 1 | t[0] | plain | TERMINATED |") and first.endswith("| – |")
    assert second.startswith("| 2 | t[1] | a\\|b | TERMINATED |") and second.endswith("| 0.5 |")
    rows = leaderboard_json(records)
    assert [row["experiment"] for row in rows] == ["plain", "a|b"]
    assert rows[0]["params"] == {"experiment": "plain"}, "what the trial is run with"
    assert "experiment" not in leaderboard_json([trial(2, EVALUATED)])[0]
    shown = Console(width=100, file=io.StringIO())
    shown.print(leaderboard_table(records))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "plain" in text and "experiment" not in text


def test_tasks_of_another_world_are_its_own() -> None:
    names = [f"task-{i}" for i in range(10)]
    report = {"env_steps": 1e5, "score": 0.35} | {
        f"score/{n}": 0.1 * i for i, n in enumerate(names)
    }
    report |= {f"survival/{n}": 6.25 for n in names}
    records = [trial(0), trial(1, report)]
    shown = text(leaderboard_table(records))
    assert "0.350" in shown and "task-" not in shown and "goalie" not in shown  # no room for ten
    best, _ = leaderboard_json(records)
    assert list(best["tasks"]) == names and best["tasks"]["task-3"]["score"] == 0.1 * 3
    header, _, first, *_ = leaderboard_markdown(records).splitlines()
    assert "task-9 score" in header and "survival" not in header and "0.90" in first
    few = {"env_steps": 1e5, "score": 0.5, "score/reach-v3": 0.5, "survival/reach-v3": 6.25}
    assert "reach-v3" in text(leaderboard_table([trial(0, few)]))
