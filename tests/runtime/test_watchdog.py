"""A process that hangs is ended, whatever it hangs in, and one that works is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import booster_ray

PACKAGE = str(Path(booster_ray.__file__).parents[1])

BEGIN = """
import ctypes, threading, time
from booster_ray.runtime import watchdog
watchdog.RECORD_SECONDS = 1.0

def told(place, stacks):
    print("told", place, "in work" in stacks, flush=True)

def work():
    {work}

with watchdog.Watchdog(0.5, 1.5, told):
    work()
print("sound")
"""
PROGRESS = "watchdog.progress(); "
Run = Callable[[str], tuple[int, str, str]]
SLEEP = "time.sleep(60)"
LINE = BEGIN[: BEGIN.index("{work}")].count("\n") + 1
"""Of the work in the file."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def begun(work: str) -> tuple[int, str, str]:
        script = tmp_path / "hanging.py"
        script.write_text(BEGIN.format(work=work))
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": PACKAGE},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return begun


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(1.0)",  # the beginning may take longer
        "[(time.sleep(0.1), watchdog.progress()) for _ in range(15)]",
        PROGRESS + "exec('with watchdog.allowing(5): time.sleep(1.5)')",
        PROGRESS + "exec('with watchdog.allowing(float(\"inf\")): time.sleep(3.0)')",
    ],
)
def test_what_makes_progress_in_its_time_is_left_alone(run: Run, work: str) -> None:
    assert run(work)[:2] == (0, "sound\n")


@pytest.mark.parametrize(
    "work",
    [
        SLEEP,
        PROGRESS + SLEEP,
        PROGRESS + "threading.Lock().acquire() and threading.Event().wait()",
        PROGRESS + "[None for _ in iter(int, 1)]",
    ],
)
def test_what_hangs_is_ended_and_its_line_told(run: Run, work: str) -> None:
    code, output, said = run(work)
    assert code == 1 and output == f"told hanging.py:{LINE} True\n"
    assert f"no progress for 0.5 s, in hanging.py:{LINE}" in said


def test_another_threads_line_is_told_where_the_worker_waits_for_it(run: Run) -> None:
    work = (
        "watchdog.progress(); "
        "other = threading.Thread(target=time.sleep, args=(60,), daemon=True); "
        "other.start(); other.join()"
    )
    code, output, _ = run(work)
    assert code == 1 and output.startswith("told hanging.py:")


def test_code_that_holds_pythons_lock_is_ended_too(run: Run) -> None:
    code, output, said = run(PROGRESS + "ctypes.PyDLL(None).sleep(60)")
    assert code == 1 and output == ""
    assert said.startswith("Timeout (0:00:0") and f'hanging.py", line {LINE} in work' in said


def test_writing_it_down_may_hang_as_well(run: Run) -> None:
    code, output, _ = run("watchdog.os.write = lambda *_: time.sleep(60); " + PROGRESS + SLEEP)
    assert code == 1 and output == ""
