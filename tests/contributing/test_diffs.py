"""What CONTRIBUTING calls a small change is one: a diff, applied to a copy of the package.

Beside each ``NAME.diff`` stands ``NAME.py``: assertions that run in a process of their own, in
which ``booster_ray`` is the changed copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOUCHED = {
    "observation_part": ["booster_ray/soccer/observation.py"],
    "randomized_quantity": [
        "booster_ray/envs/mjx_randomization.py",
        "booster_ray/envs/native.py",
        "booster_ray/soccer/randomization.py",
    ],
    "reward_term": ["booster_ray/soccer/rewards.py"],
    "world": ["booster_ray/config/kinds.py", "booster_ray/envs/point_mass.py"],
}
"""Files that a diff changes, by its name."""


def run(command: list[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_diff_is_listed() -> None:
    assert sorted(TOUCHED) == sorted(path.stem for path in HERE.glob("*.diff"))


@pytest.mark.parametrize("name", TOUCHED)
def test_a_small_change_is_one(name: str, tmp_path: Path) -> None:
    diff = HERE / f"{name}.diff"
    assert re.findall(r"^\+\+\+ b/(.+)$", diff.read_text(), flags=re.M) == TOUCHED[name]
    shutil.copytree(
        ROOT / "booster_ray", tmp_path / "booster_ray", ignore=shutil.ignore_patterns("__pycache__")
    )
    # Inside of a repository, git would look for the files from its top.
    run(["git", "apply", str(diff)], tmp_path, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    run(
        [sys.executable, str(HERE / f"{name}.py"), str(tmp_path)],
        tmp_path,
        PYTHONPATH=str(tmp_path),
    )
