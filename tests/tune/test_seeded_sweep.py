"""A sweep with two seeds a trial, end to end, on a real Ray cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import driving
import pytest
from optuna.trial import TrialState
from store.s3_server import BUCKET, serving

from booster_ray.config import load
from booster_ray.store.files import CONFIG, read_progress, trial_directory

SEARCHED = "seed={search: choice, values: [1, 3, 2, 4, 5, 6]}"
"""All that makes a difference to policies that do not learn: trials have 3, 2, 6 and 2."""
TWO = ("debug", *driving.QUICK, SEARCHED, "tune.seeds=2", "tune.sampler=random",
       "tune.max_concurrent=1")  # fmt: skip
LONGER = ("training.env_steps=6000", "evaluation.every=3000", "tune.scheduler=none",
          "sac.learning_starts=20000", "sac.replay_size=20000", "tune.trials=2")  # fmt: skip
"""Long enough to be killed in the middle."""


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


def board(sweep: Path) -> list[dict[str, Any]]:
    """The leaderboard, but for where checkpoints lie."""
    rows = json.loads((sweep / "leaderboard.json").read_text())
    return [{key: value for key, value in row.items() if key != "checkpoint"} for row in rows]


def best(sweep: Path, number: int, repeat: int) -> float:
    """Of what one seed has recorded."""
    made = read_progress(trial_directory(sweep, number, repeat))
    return max(report["score"] for report in made if "score" in report)


def seed(sweep: Path, number: int, repeat: int) -> int:
    return load(trial_directory(sweep, number, repeat) / CONFIG).base().seed


@pytest.mark.slow
def test_a_trial_is_worth_the_mean_of_two_seeds_and_a_pruned_one_has_one(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    asha = ("tune.scheduler=asha", "tune.grace_env_steps=300", "tune.trials=4")
    code, output = driving.run(*TWO, *asha, f"storage={tmp_path}")
    assert code == 0, output
    trials, rows = driving.study(sweep), {row["number"]: row for row in board(sweep)}
    ended = {state: [t.number for t in trials if t.state == state] for state in TrialState}
    whole, pruned = ended[TrialState.COMPLETE], ended[TrialState.PRUNED]
    assert whole and pruned and len(whole) + len(pruned) == 4
    for number in whole:
        scores = [best(sweep, number, repeat) for repeat in range(2)]
        assert rows[number]["seed_scores"] == scores and scores[0] != scores[1]
        assert rows[number]["score"] == trials[number].value == sum(scores) / 2
        assert seed(sweep, number, 0) != seed(sweep, number, 1)
    for number in pruned:
        assert not list(trial_directory(sweep, number).glob("seed_*"))
        assert trials[number].value == rows[number]["score"] == best(sweep, number, 0)
        assert rows[number]["rank"] > max(rows[n]["rank"] for n in whole)
    first = min(rows.values(), key=lambda row: row["rank"])
    winner = trial_directory(sweep, first["number"], first["best_seed"])
    assert (sweep / "best" / CONFIG).read_text() == (winner / CONFIG).read_text()
    assert json.loads((sweep / "best/scores.json").read_text())["best_seed"] == first["best_seed"]
    assert "2 of 2 seeds" in (sweep / "report.html").read_text()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_second_seed_it_ends_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    code, output = driving.run(*TWO, *LONGER, f"storage={tmp_path}", "name=calm")
    assert code == 0, output
    second = trial_directory(killed, 0, 1)
    process = driving.start(*TWO, *LONGER, f"storage={tmp_path}", "name=killed")
    driving.wait_for(lambda: len(list(second.glob("step_*"))) >= 2)
    driving.kill_all(process.pid)
    process.communicate()
    first = (trial_directory(killed, 0) / "progress.jsonl").read_bytes()
    before = read_progress(second)
    assert before[-1]["env_steps"] < 6000
    code, output = driving.run("--resume", "killed", "--storage", str(tmp_path))
    assert code == 0, output
    assert board(killed) == board(calm)
    assert (trial_directory(killed, 0) / "progress.jsonl").read_bytes() == first
    for number in range(2):
        for repeat in range(2):
            made = read_progress(trial_directory(killed, number, repeat))
            steps = [report["env_steps"] for report in made]
            assert steps == sorted(set(steps)) and steps[-1] == 6000
    kept = read_progress(second)
    assert kept[:2] == before[:2], "what stood in a checkpoint was made again"


@pytest.mark.slow
def test_a_fresh_machine_has_every_seed_from_the_storage(tmp_path: Path) -> None:
    """And goes on with the sweep."""
    a, b, url = tmp_path / "a", tmp_path / "b", f"s3://{BUCKET}/runs"
    with serving() as environment:
        begun = (*TWO, "tune.scheduler=none", "tune.trials=1", f"storage={url}")
        one = driving.on(a, "debug", *begun, **environment)
        resumed = ("--resume", "debug", "--storage", url, "tune.trials=2")
        more = driving.on(b, "debug", *resumed, **environment)
    assert board(one)[0]["seeds"] == 2
    rows = {row["number"]: row for row in board(more)}
    first = {key: value for key, value in rows[0].items() if key != "rank"}
    assert first == {key: value for key, value in board(one)[0].items() if key != "rank"}
    for number in range(2):
        scores = [best(more, number, repeat) for repeat in range(2)]
        assert rows[number]["seed_scores"] == scores
