"""A terminal that is closed under a sweep, and signals that schedulers send its trials."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import driving
import psutil
import pytest

from booster_ray.store.attempts import read_attempts

LONG = (
    "training.env_steps=100_000", "checkpoint.every_env_steps=100_000", "tune.trials=2",
    "tune.scheduler=none",  # which could end one of them
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


def in_a_terminal(*args: str) -> tuple[int, int]:
    """The command below a shell in a new session; the shell's id and the terminal's other end."""
    line = f"{shlex.join(driving.command(*args))}; true"  # so that the shell stays
    shell, terminal = pty.fork()
    if shell == 0:
        os.chdir(driving.ROOT)
        os.environ |= {"TERM": "xterm", "TF_CPP_MIN_LOG_LEVEL": "3"}
        os.execvp("bash", ["bash", "-c", line])
    return shell, terminal


def session(leader: int) -> list[psutil.Process]:
    """All processes of a session that live."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def assert_saved(sweep: Path, number: int) -> None:
    """The newest checkpoint holds all that the trial has reported, if not more."""
    reached = driving.progress(sweep, number)[-1]["env_steps"]
    assert int(driving.checkpoints(sweep, number)[-1].name.split("_")[1]) >= reached


@pytest.mark.slow
def test_a_lost_terminal_costs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    sweep = tmp_path / "far"
    shell, terminal = in_a_terminal("debug", f"storage={tmp_path}", "name=far", *LONG)
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):
            while text := os.read(terminal, 4096):
                shown.append(text)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        driving.wait_for(lambda: all(len(driving.progress(sweep, n)) >= 3 for n in (0, 1)), 300)
        names = " ".join(" ".join(p.cmdline()) for p in session(shell))
        assert "raylet" in names and "gcs_server" in names, names
        known = [driving.progress(sweep, n)[-1]["env_steps"] for n in (0, 1)]
        assert not any(driving.checkpoints(sweep, n) for n in (0, 1))
        os.close(terminal)
        os.waitpid(shell, 0)
        driving.wait_for(lambda: not session(shell), 60)
    finally:
        for process in session(shell):
            process.kill()
    for number in (0, 1):
        assert_saved(sweep, number)
        assert driving.progress(sweep, number)[-1]["env_steps"] >= known[number]
        assert not (sweep / "trials" / f"{number:04d}" / "error.txt").exists()


@pytest.mark.slow
def test_schedulers_signals_save_trials_and_the_sweep(tmp_path: Path) -> None:
    """To one trial: it makes way and goes on. To the driver: all save, and it ends."""
    sweep = tmp_path / "far"
    process = driving.start("debug", f"storage={tmp_path}", "name=far", *LONG)
    driving.wait_for(lambda: all(len(driving.progress(sweep, n)) >= 2 for n in (0, 1)), 300)
    trials = driving.trial_processes(process.pid)
    for trial, signum in zip(trials, (signal.SIGUSR1, signal.SIGHUP), strict=True):
        trial.send_signal(signum)

    def ended() -> list[str]:
        found = [a for n in (0, 1) for a in read_attempts(sweep / "trials" / f"000{n}")]
        return sorted(f"{one['how']}: {one['text']}" for one in found)

    driving.wait_for(lambda: len(ended()) == 2, 120)
    assert ended() == ["preempted: SIGHUP", "preempted: SIGUSR1"]
    known = [len(driving.progress(sweep, n)) for n in (0, 1)]
    driving.wait_for(
        lambda: all(len(driving.progress(sweep, n)) > known[n] for n in (0, 1)), 300
    )  # they went on
    process.send_signal(signal.SIGUSR1)
    code, output = driving.finish(process, 120)
    assert code == 130, output
    assert "SIGUSR1" in output and "Traceback" not in output
    for number in (0, 1):
        assert_saved(sweep, number)
