"""Every example runs as its own docstring says."""

from __future__ import annotations

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

EXAMPLES = sorted((driving.ROOT / "examples").glob("*.py"))


ALONE = ("play_onnx",)
"""Those that are given a file, and have a test of their own."""


def run(example: Path, *args: str, **environment: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(example), *args],
        cwd=driving.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if e.stem not in ALONE], ids=lambda path: path.stem
)
def test_example(example: Path) -> None:
    assert run(example).strip()


def test_a_reader_of_sixty_lines_scores_the_striker_as_our_evaluator_does(tmp_path: Path) -> None:
    """Its contract is enough to play it: nothing of the package is imported."""
    (reader,) = (e for e in EXAMPLES if e.stem == "play_onnx")
    assert len(reader.read_text().splitlines()) <= 60
    assert not re.search(r"^\s*(import|from) booster_ray", reader.read_text(), flags=re.M)
    striker = driving.ROOT / "policies" / "striker"
    assert export([str(striker), "--output", str(tmp_path / "new")]) == 0
    told = run(reader, str(tmp_path / "new" / "joint_targets.onnx"), "1")
    scores = [float(line.split()[2]) for line in told.splitlines()]
    ours = play_native([1000], load_target(str(striker)).make_player)
    assert [line.split()[1] for line in told.splitlines()] == ["1000"] * 3
    np.testing.assert_allclose(scores, [episode.score for episode in ours], atol=1e-3)
