"""Checks run apart: one that crashes or hangs is a finding, and the others have theirs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from booster_ray.config import load
from booster_ray.deploy.doctor.findings import Check, run_check, run_checks

HERE = str(Path(__file__).parent)


def check(function: str, seconds: float = 120) -> Check:
    return Check(function, f"probes:{function}", seconds, "look there")


@pytest.fixture
def environment() -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{HERE}:{path}" if path else HERE, "MUJOCO_GL": "disabled"}


def test_one_that_goes_wrong_does_not_stop_the_others(environment: dict[str, str]) -> None:
    checks = [check("crashes"), check("raises"), check("fine")]
    found = run_checks(checks, load("debug").base(), environment)
    assert [one.verdict for one in found] == ["fail", "fail", "ok"]
    crashed, raised, fine = found
    assert "SIGSEGV" in crashed.text and crashed.fix == "look there"
    assert "exit code 1" in raised.text and "RuntimeError: no such device" in raised.text
    assert fine.text == "debug" and fine.details == {"gl": "disabled"}


def test_one_that_hangs_is_ended_with_its_children(
    environment: dict[str, str], tmp_path: Path
) -> None:
    note = tmp_path / "child"
    config = load("debug", [f"storage={note}"]).base()
    for seconds in (5, 60):  # on a machine with much to do, it takes longer to begin
        found = run_check(check("hangs", seconds=seconds), config, environment)
        assert [one.verdict for one in found] == ["fail"]
        assert f"no answer within {seconds} s" in found[0].text
        if note.exists():
            break
    child = int(note.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie":
            return
        time.sleep(0.1)
    raise AssertionError(f"{child} lives on")
