"""Every example runs as its own docstring says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import driving
import pytest

EXAMPLES = sorted((driving.ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=driving.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
