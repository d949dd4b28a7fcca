"""Drives the real command in its own process, and kills what it started."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import optuna
import psutil

from booster_ray.store.database import sqlite_url

ROOT = Path(__file__).parents[1]


UNTRACKED = "tracking.listeners=[]"
"""To load trackers takes longer than what most tests have to say."""

QUICK = (
    "randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4", "world=gym:Pendulum-v1",
    "evaluation.max_steps=20", "sac.learning_starts=2000",
)  # fmt: skip
"""Overrides of the preset debug for tests of a run's process: its world needs no compiled rules,
and it compiles no update, for it ends or is stopped before it learns."""


def command(*args: str, module: str = "tune") -> list[str]:
    """The command line of a booster_ray module; a new run is not tracked unless it is told to."""
    begins = module in ("tune", "train") and args and not args[0].startswith("-")
    tracked = any(arg.startswith("tracking.") for arg in args)
    silent = [UNTRACKED] if begins and not tracked else []
    return [sys.executable, "-m", f"booster_ray.{module}", *args, *silent]


_started: list[subprocess.Popen[str]] = []


def clean_up() -> None:
    """Kill whatever a failed test left running."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            kill_all(process.pid)
            process.communicate()


def start(*args: str, module: str = "tune", **environment: str) -> subprocess.Popen[str]:
    """Start the command; its output is kept for ``communicate``."""
    process = subprocess.Popen(
        command(*args, module=module),
        cwd=ROOT,
        # JAX, once a test has imported it, sets 1; what XLA then says of cached programs would
        # fill the pipe, which nobody reads before the end.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _started.append(process)
    return process


def finish(process: subprocess.Popen[str], timeout: float = 1500) -> tuple[int, str]:
    """Exit code and output; kills everything should it hang."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_all(process.pid)
        output, _ = process.communicate()
        raise AssertionError(f"still running after {timeout} s:\n{output}") from None
    return process.returncode, output


def run(*args: str, module: str = "tune", timeout: float = 1500) -> tuple[int, str]:
    """Run the command to its end."""
    return finish(start(*args, module=module), timeout)


def on(disk: Path, name: str, *args: str, **environment: str) -> Path:
    """Run the command to its end on a machine of its own; the folder of the run there.

    Args:
        disk: where the machine keeps what it has: temporary files, its user's home.
        name: of a run on remote storage.
        args: of the command.
        environment: what leads to the storage.
    """
    (disk / "home").mkdir(parents=True, exist_ok=True)
    own = {"TMPDIR": str(disk), "HOME": str(disk / "home"), **environment}
    code, output = finish(start(*args, **own))
    assert code == 0, output
    (root,) = disk.glob(f"booster_ray/storage/*/{name}")
    return root


def inside(
    *args: str, module: str = "tune", stdout: TextIO | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command's door to its end in this process, which has imported the package already.

    For what a command says and refuses; what hangs on a process of its own (signals, imports, the
    environment, descriptors) is started as one.

    Args:
        args: of the command.
        module: its door.
        stdout: where its output goes; None: into the result.
    """
    line, environment, argv = command(*args, module=module), dict(os.environ), sys.argv
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    try:
        sys.argv = line[2:]
        with redirect_stdout(stdout or out), redirect_stderr(err), chdir(ROOT):
            runpy.run_module(line[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
    assert isinstance(code, int), f"{line} ended with {code!r}"
    return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    parent = psutil.Process(pid)
    return [*parent.children(recursive=True), parent]


def kill_all(pid: int) -> None:
    """``kill -9`` of a process and every one of its children, at once, and wait for them."""
    processes = family(pid)
    for process in processes:
        process.send_signal(signal.SIGSTOP)  # so that none can restart another
    for process in processes:
        process.kill()
    psutil.wait_procs(processes[:-1], timeout=30)


def trial_processes(pid: int) -> list[psutil.Process]:
    """The Ray workers below ``pid`` that run a trial now."""
    return named(pid, "TrialProcess")


def named(pid: int, name: str) -> list[psutil.Process]:
    """The Ray workers below ``pid`` whose actor is of that name."""
    return [p for p in family(pid) if name in _command(p)]


def _command(process: psutil.Process) -> str:
    """Its command line; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for(condition: Callable[[], Any], timeout: float = 900) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {timeout} s: {condition}")


def progress(sweep: Path, number: int) -> list[dict[str, float]]:
    """The recorded reports of one trial."""
    path = sweep / "trials" / f"{number:04d}" / "progress.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def study(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials of a sweep's study."""
    url = sqlite_url(sweep / "study.db")
    return optuna.load_study(study_name=sweep.name, storage=url).get_trials()


def checkpoints(sweep: Path, number: int) -> list[Path]:
    """The full checkpoints of one trial, oldest first."""
    return sorted((sweep / "trials" / f"{number:04d}").glob("step_*"))
