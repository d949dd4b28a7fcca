"""The job scripts: what they pass on, and that they run under a real SLURM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from cluster.slurm_here import Slurm, missing, wait_for

SLURM = driving.ROOT / "cluster" / "slurm"
LONG = 3000
"""Seconds: CI's machines are slow and shared."""


# -- arguments and signals, by bash alone ------------------------------------------------------


def sourced(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script's lines after those of common.sh, as a job of the name ``first`` has them."""
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "first", "BOOSTER_RAY": str(driving.ROOT)}
    text = f"source {SLURM / 'common.sh'}\n{script}"
    return subprocess.run(
        ["bash", "-c", text, "job", *arguments], env={**os.environ, **job, **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


SHOW = """run_arguments sweep.yaml "$@"
printf '%s\\n' "${arguments[@]}" """


def test_arguments_arrive_as_they_were_given(tmp_path: Path) -> None:
    given = ["debug", "rewards={alive: 1.0, fall: -2}", "runtime.xla_flags=--a=$HOME '\"* b"]
    done = sourced(SHOW, *given, BOOSTER_RAY_STORAGE=str(tmp_path))
    assert done.stdout.splitlines() == [*given, "name=first", f"storage={tmp_path}"]


def test_a_begun_run_goes_on_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sweep.yaml").touch()
    done = sourced(SHOW, "debug", "seed=1", BOOSTER_RAY_STORAGE=str(tmp_path))
    assert done.stdout.splitlines() == ["--resume", "first", "--storage", str(tmp_path)]


def test_on_remote_storage_a_job_that_came_back_goes_on() -> None:
    url = "s3://bucket/runs"
    assert "name=first" in sourced(SHOW, "debug", BOOSTER_RAY_STORAGE=url).stdout
    again = sourced(SHOW, "debug", BOOSTER_RAY_STORAGE=url, SLURM_RESTART_COUNT="1").stdout
    assert again.splitlines() == ["--resume", "first", "--storage", url]


@pytest.mark.parametrize("arguments", [["debug", "name=x"], ["debug", "storage=/x"], []])
def test_what_the_job_says_itself_is_refused(arguments: list[str]) -> None:
    done = sourced(SHOW, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(("error: ", "usage: "))


WORKER = """import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[1])))
print("ready", flush=True)
signal.pause()"""
DRIVE = """scontrol() { echo "scontrol $*"; return 1; }
make_scratch
(sleep 3; kill -USR1 $$) &
drive "$1" -c "$2" "$3" """


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_signal_lets_the_run_save_and_requeues_what_was_stopped(code: int) -> None:
    done = sourced(DRIVE, sys.executable, WORKER, str(code))
    assert done.returncode == code and "signal: saving" in done.stdout
    assert ("scontrol requeue 7" in done.stdout) == (code == 130)


# -- a cluster -------------------------------------------------------------------------------


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    if (why := missing()) is not None:
        pytest.skip(why)
    try:
        cluster = Slurm(cpus=len(os.sched_getaffinity(0)))
    except (AssertionError, OSError) as error:
        pytest.skip(f"SLURM's daemons cannot run here: {error}")
    try:
        yield cluster
    finally:
        cluster.close()


def settings(storage: Path) -> dict[str, str]:
    """What sbatch's environment tells the scripts."""
    return {
        "BOOSTER_RAY": str(driving.ROOT),
        "BOOSTER_RAY_PYTHON": sys.executable,
        "BOOSTER_RAY_STORAGE": str(storage),
    }


@pytest.mark.slow
def test_the_smoke_job_runs(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit(
        "--cpus-per-task=1", str(SLURM / "smoke.sbatch"), "tune.trials=1", cwd=tmp_path,
        **settings(tmp_path / "runs"),
    )  # fmt: skip
    wait_for(lambda: slurm.state(job) in ("COMPLETED", "FAILED"), LONG)
    log = (tmp_path / f"smoke-{job}.log").read_text()
    assert slurm.state(job) == "COMPLETED", log + slurm.logs()
    assert "ok    storage" in log and "Leaderboard" in log
    assert (tmp_path / "runs" / f"smoke-{job}" / "leaderboard.json").exists()
    assert not list(Path("/tmp").glob(f"booster_ray-{job}"))


@pytest.mark.slow
def test_a_sweep_that_is_requeued_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep, cpus = runs / "first", min(2, len(os.sched_getaffinity(0)))
    job = slurm.submit(
        "--job-name=first", f"--cpus-per-task={cpus}", str(SLURM / "sweep.sbatch"), "debug",
        "training.env_steps=3000", "evaluation.every=3000", "tune.scheduler=none",
        cwd=tmp_path, **settings(runs),
    )  # fmt: skip
    log = tmp_path / f"first-{job}.log"

    def begun() -> bool:
        assert slurm.state(job) in ("PENDING", "RUNNING"), log.read_text() + slurm.logs()
        return bool(driving.checkpoints(sweep, 0))

    wait_for(begun, LONG)
    # As --signal does before the time is over.
    slurm.ask("scancel", "--batch", "--signal=USR1", str(job))
    wait_for(lambda: slurm.about(job).get("Restarts") == "1", LONG)
    reached = driving.progress(sweep, 0)[-1]["env_steps"]
    assert "back to the queue" in log.read_text() and 0 < reached < 3000

    def running() -> bool:
        if slurm.about(job).get("Reason") == "BeginTime":  # it would wait for two minutes
            slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        return slurm.state(job) in ("RUNNING", "COMPLETED", "FAILED")

    wait_for(running, LONG)
    wait_for(lambda: slurm.state(job) in ("COMPLETED", "FAILED"), LONG)
    assert slurm.state(job) == "COMPLETED", log.read_text() + slurm.logs()
    for number in (0, 1):
        steps = [report["env_steps"] for report in driving.progress(sweep, number)]
        assert steps == sorted(set(steps)) and steps[-1] >= 3000
    leaders = json.loads((sweep / "leaderboard.json").read_text())
    assert len(leaders) == 2
    assert not list(Path("/tmp").glob(f"*ray-{job}"))
