"""``python -m booster_ray.compare``: from disk, by playing, and what it is not given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from booster_ray.cli import guarded
from booster_ray.config import load
from booster_ray.evaluate.output import write as write_evaluation
from booster_ray.evaluate.play import Episode
from booster_ray.evaluate.summary import summarize
from booster_ray.soccer import game
from booster_ray.tune.compare.command import main
from booster_ray.tune.compare.entrant import config_differences, read_entrants, short
from booster_ray.tune.compare.output import Comparison, learning, reached

REPORTS = [
    {"env_steps": 0, "wall_seconds": 1.0, "score": -1.75, "score/goalie": -2.0},
    {"env_steps": 100, "wall_seconds": 36.0, "env_steps_per_second": 50.0},
    {"env_steps": 200, "wall_seconds": 72.0, "score": 2.5, "score/goalie": 3.0},
    {"env_steps": 300, "wall_seconds": 108.0, "score": 1.5, "score/goalie": 2.0},
]


def run(folder: Path, *overrides: str, better: float = 0.0) -> Path:
    """A run's folder as training leaves it, without checkpoints."""
    folder.mkdir(parents=True)
    config = load("debug", [f"name=run-{folder.name}", *overrides]).base()
    (folder / "config.yaml").write_text(config.to_yaml())
    rows = [{**row, "score": row["score"] + better} if "score" in row else row for row in REPORTS]
    (folder / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def evaluation(folder: Path, better: float = 0.0, seeds: range = range(1000, 1006)) -> Path:
    """What ``evaluate --output`` writes."""

    def one(task: str, seed: int) -> Episode:
        score = 3.0 + seed % 5 + better * (1 + 0.1 * (seed % 2))
        return Episode(
            task, seed, score, {"steps": -1.0} if task != "kick_to_target" else {"steps": -0.3},
            10.0, 0.0, 1.0, 1.0, 1.0, 5.0, 0.7, 1.0, 0.1,
        )  # fmt: skip

    each = [one("goalie", seeds[0])] + [one(t, s) for t in game.TASKS[1:] for s in seeds]
    for episode in each:
        from booster_ray.soccer.scoring import WEIGHTS

        episode.terms = dict.fromkeys(WEIGHTS[episode.task], 0.0)
    write_evaluation(folder, {"target": "x", "world": "native"}, summarize(each), each)
    return folder


def test_runs_are_compared_from_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", "sac.actor_lr=1e-4", better=1.0)
    out = tmp_path / "out"
    assert main([str(a), str(b), "--no-play", "--output", str(out)]) == 0
    shown = capsys.readouterr().out
    for text in ("training's evaluations", "sac.actor_lr", "0.0001", "no paired test", "2.50"):
        assert text in shown
    assert "seed" not in [line.split()[0] for line in shown.splitlines() if line.split()]
    told = json.loads((out / "comparison.json").read_text())
    assert set(told["settings"]) == {"sac.actor_lr"}  # and not name or storage
    assert told["entrants"][1]["scores"]["mean"] == {"mean": 3.5, "low": None, "high": None}
    assert told["entrants"][0]["learning"]["best_at"] == 200
    page = (out / "comparison.html").read_text()
    assert page.count("plotly.js v") == 1 and "sac.actor_lr" in page
    assert 'src="https://cdn.plot.ly' not in page  # it opens without a network


def test_evaluations_on_disk_are_not_played_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = evaluation(tmp_path / "x" / "a"), evaluation(tmp_path / "x" / "b", better=2.0)
    out = tmp_path / "out"
    argv = [str(a), str(b / "evaluation.json"), "--output", str(out)]
    assert main(argv) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "b scores 2.07 more than a" in shown and "p < 0.001, 13 pairs" in shown
    told = json.loads((out / "comparison.json").read_text())
    (found,) = told["differences"]
    assert found["mean"]["pairs"] == 13 and found["mean"]["p"] < 0.001
    assert found["goalie"]["exact"] and found["goalie"]["estimate"]["mean"] == 2.0
    assert not any(entrant["played"] for entrant in told["entrants"])
    assert main([str(a), str(evaluation(tmp_path / "y"))]) == 0
    assert "exactly as a in all 13 episodes" in capsys.readouterr().out.replace("\n", " ")


def test_what_has_no_seed_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = evaluation(tmp_path / "a"), evaluation(tmp_path / "b", seeds=range(5))
    assert guarded(lambda: main([str(a), str(b)])) == 2
    assert "no seed in common" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["a"], "B: is missing"),
        (["a", "nowhere"], "nowhere: is not there"),
        (["a", "a"], "is given twice"),
        (["a", "empty"], "holds nothing to compare"),
        (["a", "torn"], "is no evaluation"),
        (["a", "package"], "not JSON"),
    ],
)
def test_bad_input_gets_one_line(
    argv: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "evaluation.json").write_text('{"each": [{"task": "golf"}]}')
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "package.json").write_text("{")
    assert guarded(lambda: main([*(str(tmp_path / one) for one in argv), "--no-play"])) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1


def test_a_sweep_is_its_best_run_and_that_ones_seeds(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run(sweep / "trials" / "0000")
    best = run(sweep / "trials" / "0001", better=2.0)
    other = run(sweep / "trials" / "0001" / "seed_1", "seed=1", better=-1.0)
    (sweep / "sweep.yaml").write_text((best / "config.yaml").read_text())
    first, second = read_entrants([str(sweep), str(other)])
    assert (first.kind, first.run, first.repeats) == ("sweep", best, (other,))
    assert first.repeat_scores == [4.5, 1.5] and second.repeat_scores == [1.5, 4.5]
    assert config_differences([first, second])["seed"] == [0, 1]
    told = learning(first)
    assert told is not None and told["last_score"] == 3.5 and told["seeds_iqm"] is None
    assert reached(first, 4.0) == 200 and reached(second, 4.0) is None
    assert Comparison([first, second]).verdicts()[0].endswith("are missing")


def test_names_are_as_short_as_they_can_be() -> None:
    paths = ["results/one/best_1", "results/two/best_1", "a/two", "x.onnx", "my:policy"]
    assert short(paths) == ["one/best_1", "two/best_1", "two", "x.onnx", "my:policy"]


def test_settings_that_a_config_lacks_differ(tmp_path: Path) -> None:
    first, second = read_entrants([str(run(tmp_path / "a")), str(run(tmp_path / "b"))])
    assert config_differences([first, second]) == {}
    assert second.config is not None
    changed: dict[str, Any] = {**second.config, "tasks": ["goalie"]}
    del changed["seed"]
    second.config = changed
    assert config_differences([first, second]) == {
        "seed": [0, None], "tasks": [list(game.TASKS), ["goalie"]],
    }  # fmt: skip


def test_policies_are_played_on_the_same_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = ["policies:falling", "policies:actor_of_zeros", "--episodes", "2", "--seed", "7"]
    assert guarded(lambda: main([*argv, "--output", str(out)])) == 2  # there is no such object
    assert "actor_of_zeros" in capsys.readouterr().err
    kept = evaluation(tmp_path / "kept", seeds=range(40, 42))
    assert main([str(kept), "policies:falling", "--output", str(out)]) == 0
    told = json.loads((out / "comparison.json").read_text())
    assert [entrant["played"] for entrant in told["entrants"]] == [False, True]
    assert {e["seed"] for e in told["entrants"][1]["each"]} == {40, 41}
    assert told["differences"][0]["mean"]["estimate"]["mean"] < 0
