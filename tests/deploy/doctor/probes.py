"""Checks that go wrong, for test_findings.py: found by their processes on PYTHONPATH."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from booster_ray.config import Config
from booster_ray.deploy.doctor.findings import Finding


def fine(config: Config) -> list[Finding]:
    print("libraries print what they like")
    return [Finding("fine", "ok", config.name, details={"gl": os.environ.get("MUJOCO_GL")})]


def crashes(config: Config) -> list[Finding]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def raises(config: Config) -> list[Finding]:
    raise RuntimeError("no such device")


def hangs(config: Config) -> list[Finding]:
    """And leaves a child that would hang on."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(config.storage).write_text(str(child.pid))
    time.sleep(600)
    return []
