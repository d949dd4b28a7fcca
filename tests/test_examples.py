"""Every example runs as its own docstring says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import driving
import numpy as np
import pytest

from booster_ray.evaluate.export_command import main as export
from booster_ray.evaluate.play import play_native
from booster_ray.evaluate.target import load_target
from booster_ray.soccer import game
from booster_ray.store.progress import History
from booster_ray.tune.leaderboard import leaderboard_json
from booster_ray.tune.records import TrialRecord

EXAMPLES = sorted((driving.ROOT / "examples").glob("*.py"))


ALONE = ("play_onnx", "sweep_with_pandas", "train_sb3")
"""Those that are given a file, and have a test of their own."""


def run(example: Path, *args: str, folder: Path = driving.ROOT) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(example), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"PYTHONPATH": str(driving.ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def named(stem: str) -> Path:
    (example,) = (e for e in EXAMPLES if e.stem == stem)
    return example


def test_examples_are_short() -> None:
    for example in EXAMPLES:
        if example.stem != "play_onnx":
            assert len(example.read_text().splitlines()) <= 40, example


@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if e.stem not in ALONE], ids=lambda path: path.stem
)
def test_example(example: Path) -> None:
    assert run(example).strip()


def test_a_reader_of_sixty_lines_scores_the_striker_as_our_evaluator_does(tmp_path: Path) -> None:
    """Its contract is enough to play it: nothing of the package is imported."""
    reader = named("play_onnx")
    assert len(reader.read_text().splitlines()) <= 60
    assert not re.search(r"^\s*(import|from) booster_ray", reader.read_text(), flags=re.M)
    striker = driving.ROOT / "policies" / "striker"
    assert export([str(striker), "--output", str(tmp_path / "new")]) == 0
    told = run(reader, str(tmp_path / "new" / "joint_targets.onnx"), "1")
    scores = [float(line.split()[2]) for line in told.splitlines()]
    ours = play_native([1000], load_target(str(striker)).make_player)
    assert [line.split()[1] for line in told.splitlines()] == ["1000"] * 3
    np.testing.assert_allclose(scores, [episode.score for episode in ours], atol=1e-3)


def test_training_with_another_library_and_its_official_scores(tmp_path: Path) -> None:
    told = run(named("train_sb3"), "120", folder=tmp_path)
    assert re.findall(r"^(\w+): [+-]\d+\.\d\d$", told, flags=re.M) == list(game.TASKS)
    target = load_target(str(tmp_path / "sac.zip"), trust=True)
    assert target.kind in ("sbx", "stable_baselines3")


def test_a_sweep_as_tables(tmp_path: Path) -> None:
    """Of files as a sweep writes them."""
    records = []
    for number in range(3):
        reports = [{"env_steps": steps, "score": number + steps / 1000} for steps in (100.0, 200.0)]
        folder = tmp_path / "trials" / f"{number:04d}"
        folder.mkdir(parents=True)
        (folder / "progress.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reports))
        params: dict[str, object] = {"sac.tau": 0.01 * (number + 1), "sac.critic": "c51"}
        records.append(
            TrialRecord(
                trial_id=str(number), number=number, status="TERMINATED", params=params,
                history=History(reports), target_env_steps=200, checkpoint=None, error=None,
                started=True,
            )
        )  # fmt: skip
    board = json.dumps(leaderboard_json(records))
    (tmp_path / "leaderboard.json").write_text(board)
    told = run(named("sweep_with_pandas"), str(tmp_path))
    assert re.search(r"^2 +TERMINATED +2\.2 +200\.0 +0\.03 +c51$", told, flags=re.M), told
    assert re.search(r"^params\.sac\.tau +1\.0$", told, flags=re.M), told
    assert re.search(r"^200(\.0)? +0\.2 +1\.2 +2\.2$", told, flags=re.M), told
