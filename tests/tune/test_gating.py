"""A sweep ends with gates and a package of its best trials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest

from booster_ray.evaluate.target import find_checkpoint
from booster_ray.store.files import GATES
from booster_ray.store.gate_results import digest


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


@pytest.mark.slow
def test_the_best_trials_play_the_gates_and_the_best_becomes_a_package(tmp_path: Path) -> None:
    code, output = driving.run(
        "debug",
        f"storage={tmp_path}",
        "tune.trials=3",
        "tune.gate_trials=2",
        "tune.gate_episodes=3",
    )
    assert code == 0, output
    sweep = tmp_path / "debug"
    board = json.loads((sweep / "leaderboard.json").read_text())
    assert [row["gates"] is not None for row in board] == [True, True, False]
    for row in board[:2]:
        trial = sweep / "trials" / row["trial"]
        told = json.loads((trial / GATES).read_text())
        assert told["digest"] == digest(find_checkpoint(trial))
        assert (
            told["gates"]["2"]["passed"] and told["gates"]["2"]["numbers"]["control_steps"] >= 1000
        )
        played = told["gates"]["3"]["numbers"]
        assert set(played["tasks"]) == {"goalie", "obstacle", "kick_to_target"}
        assert played["episodes"] == 3 and told["gates"]["3"]["passed"] is not True
    assert "Gate 2 (conversion) passed" in output and "Gate 3 (transfer)" in output
    assert f"Submission package: {sweep / 'package'}" in output
    assert "gates</th>" in (sweep / "report.html").read_text()
    assert "| gates |" in (sweep / "leaderboard.md").read_text()
    # What was finished is not done again.
    before = {p: p.read_bytes() for p in sweep.glob("trials/*/gates.json")}
    (sweep / "leaderboard.json").unlink()
    code, output = driving.run("--resume", "debug", "--storage", str(tmp_path))
    assert code == 0, output
    assert before == {p: p.read_bytes() for p in sweep.glob("trials/*/gates.json")}
    assert json.loads((sweep / "leaderboard.json").read_text()) == board
    code, output = driving.run(str(sweep / "package"), "--episodes", "1", module="evaluate")
    assert code == 0, output
