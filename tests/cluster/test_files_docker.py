"""The image's files: linted, its libraries locked, no code. It cannot be built here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import driving
from install.locks import FOLDER, read

BIN = Path(sys.executable).parent


def test_the_dockerfile_passes_its_linter() -> None:
    done = subprocess.run(
        [BIN / "hadolint", "--no-color", "Dockerfile"],
        cwd=driving.ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


def test_the_image_installs_the_whole_set_of_cuda_12() -> None:
    """Its contents are looked at in tests/install/test_locks.py."""
    found = read(FOLDER / "cuda12.lock")
    lines = (FOLDER / "image.in").read_text(encoding="utf-8").splitlines()
    notebooks = [line for line in lines if line and not line.startswith("#")]
    assert len(notebooks) > 5 and set(notebooks) <= found.keys()
    text = (driving.ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes" in text and "--requirement /databricks/cuda12.lock" in text


def test_no_code_is_in_the_image() -> None:
    lines = (driving.ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[-2] for line in lines if line.startswith(("COPY", "ADD"))]
    assert copied == ["requirements/cuda12.lock", "cluster/image/healthcheck"]
    kept = (driving.ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in kept if line.startswith("!")) == sorted(copied)
