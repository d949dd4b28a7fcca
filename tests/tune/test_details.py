"""What the report reads of a sweep's folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from booster_ray.store.attempts import add_attempt, new_attempt
from booster_ray.store.checkpoint import save
from booster_ray.store.files import SYSTEM, trial_directory
from booster_ray.store.gate_results import GateResult, store
from booster_ray.store.progress import History
from booster_ray.tune.details import read_details
from booster_ray.tune.records import TrialRecord


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sweep of one trial that was preempted once, judged by gates 2 and 3, and filmed."""
    root = tmp_path / "my sweep"
    run = trial_directory(root, 0)
    run.mkdir(parents=True)
    (root / "sweep.yaml").write_text("name: my sweep\n")
    (root / "best" / "films").mkdir(parents=True)
    (root / "best" / "films" / "goalie.mp4").write_bytes(b"film")
    (run / "progress.jsonl").write_text('{"env_steps": 640}\n')
    add_attempt(run, new_attempt(run), "preempted", "notice\nof SLURM", seconds=2.5)
    readings = [
        {"env_steps": 0, "cpu/utilization": 0.5, "memory/process": 1.0, "gpu/0/utilization": 0.2},
        {"env_steps": 0, "alert": "hot"},
        {"env_steps": 9, "cpu/utilization": 1.0, "memory/process": 3.0, "gpu/1/utilization": 0.6},
    ]
    (run / SYSTEM).write_text("".join(json.dumps(one) + "\n" for one in readings))
    save(run / "best_000000000640", {"x": np.zeros(3)})
    conversion = {
        "bounds": {"observation": 1e-5, "torque": 1e-3},
        "max_difference": {"joint_pos": 0.0, "gyro": 2e-5, "torque": 1.5e-4},
    }
    survival = {"pairs": 64, "mjx": 10.0, "official": 9.5, "bound": 2.0, "holds": None}
    verdicts = [
        GateResult(2, "conversion", False, conversion, [], []),
        GateResult(3, "transfer", None, {"tasks": {"goalie": {"survival": survival}}}, [], []),
    ]
    store(run, run / "best_000000000640", verdicts)
    return root


def record(root: Path, gates: str | None) -> TrialRecord:
    history = History([{"env_steps": 640.0, "score": 1.0}])
    best = str(trial_directory(root, 0) / "best_000000000640")
    return TrialRecord("0000", 0, "TERMINATED", {}, history, 640, best, None, True, gates=gates)


def test_all_of_a_folder(root: Path) -> None:
    found = read_details(root, "my sweep", [record(root, "fail 2")])
    assert found.films == {"goalie": b"film"} and found.config == "name: my sweep\n"
    (one,) = found.interruptions
    assert one[0] == "0000" and one[2:] == ("preempted", 640, 2.5, "notice of SLURM")
    assert found.use == [("0000", 0.75, 3.0, 0.4, None)]
    assert [row[1:] for row in found.gates] == [
        ("2 conversion", "largest difference: observation, most in gyro", "2e-05",
         "at most 1e-05", False),
        ("2 conversion", "largest difference: torque", "0.00015", "at most 0.001", True),
        ("3 transfer", "goalie: survival, 64 pairs", "10 in MJX, 9.5 officially",
         "a loss of at most 2", None),
    ]  # fmt: skip


def test_commands_are_words_that_a_shell_takes_apart(root: Path) -> None:
    commands = [c for _, c in read_details(root, "my sweep", [record(root, None)]).commands]
    assert len(commands) == 4
    for command in commands:
        assert command.startswith("python -m booster_ray.")
        printed = subprocess.run(
            ["bash", "-c", f"set -- {command}; printf '%s\\n' \"$@\""],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        words = printed.stdout.splitlines()
        assert any(str(root.parent) in word and "my" in word for word in words) or any(
            word == str(root.parent) for word in words
        ), words


def test_a_folder_that_holds_little(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("")
    bare = TrialRecord("0000", 0, "RUNNING", {}, History(), 1, None, None, True)
    found = read_details(tmp_path, "s", [bare])
    assert not (found.films or found.gates or found.interruptions or found.use)
    assert len(found.commands) == 2
