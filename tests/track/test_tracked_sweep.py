"""A sweep whose trials are killed reads as one clean curve a trial, in MLflow and in W&B."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import driving
import psutil
import pytest
from track.told import wandb_history

from booster_ray.store.files import run_id

TRIALS, STEPS, EVERY = 3, 1500, 150
WORK = (
    "debug", f"tune.trials={TRIALS}", "tune.max_concurrent=2", "tune.scheduler=none",
    "tune.sampler=random", "tune.gate_trials=0", f"training.env_steps={STEPS}",
    f"training.report_every={EVERY}", f"checkpoint.every_env_steps={EVERY}",
    "evaluation.every=750", "tracking.close_seconds=600", "models.registry=none",
)  # fmt: skip
KEY = "5ec2e7" * 7
"""Planted where keys are kept; it must not be found anywhere else."""


@pytest.fixture(autouse=True)
def no_strays() -> Iterator[None]:
    yield
    driving.clean_up()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server on an SQLite file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    arguments = [
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            stdout=log, stderr=log, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return bool(urllib.request.urlopen(f"{address}/health", timeout=5).status == 200)
        except OSError:
            return False

    driving.wait_for(answers)
    yield address
    driving.kill_all(process.pid)
    process.wait()


def process_of(driver: int, trial: Path) -> psutil.Process | None:
    """The trial's process: the one that has the run's lock open."""
    for process in driving.trial_processes(driver):
        try:
            if any(file.path.startswith(f"{trial}/") for file in process.open_files()):
                return process
        except psutil.Error:
            continue
    return None


def kill_once(driver: int, sweep: Path, number: int) -> None:
    """Kill the process of a trial that has a checkpoint to go on from, and more to do."""
    trial = sweep / "trials" / f"{number:04d}"

    def killed() -> bool:
        reports = driving.progress(sweep, number)
        if len(reports) < 2 or not driving.checkpoints(sweep, number):
            return False
        assert reports[-1]["env_steps"] < STEPS, "too late"
        process = process_of(driver, trial)
        if process:
            process.kill()
        return process is not None

    driving.wait_for(killed)


def clean(steps: list[int]) -> None:
    """Strictly increasing, from the first report to the last, without a gap."""
    assert all(a < b for a, b in pairwise(steps)), steps
    assert steps[0] <= EVERY
    assert steps[-1] >= STEPS
    assert max(b - a for a, b in pairwise(steps)) <= EVERY, steps


@pytest.mark.slow
def test_killed_trials_and_a_killed_driver_leave_one_clean_run_a_trial(
    tmp_path: Path, server: str
) -> None:
    secret = {"WANDB_API_KEY": KEY, "MLFLOW_TRACKING_TOKEN": KEY}
    sweep = tmp_path / "runs" / "tracked"
    arguments = [*WORK, "name=tracked", f"storage={tmp_path}/runs", f"tracking.mlflow.uri={server}"]
    driver = driving.start(*arguments, **secret)
    for number in range(TRIALS):
        kill_once(driver.pid, sweep, number)
        for process in driving.family(driver.pid):
            try:
                assert KEY not in " ".join(process.cmdline())
            except psutil.Error:
                continue
    last = len(driving.progress(sweep, TRIALS - 1))
    driving.wait_for(lambda: len(driving.progress(sweep, TRIALS - 1)) > last)
    driving.kill_all(driver.pid)
    output, _ = driver.communicate()
    resumed = driving.start("--resume", "tracked", "--storage", f"{tmp_path}/runs", **secret)
    code, more = driving.finish(resumed)
    assert code == 0, more
    assert "has not got" not in more

    reports = {
        run_id(sweep / "trials" / f"{number:04d}"): driving.progress(sweep, number)
        for number in range(TRIALS)
    }
    check_mlflow(server, sweep, reports)
    check_wandb(sweep, reports)
    assert KEY not in output + more
    grep = subprocess.run(["grep", "-rl", KEY, str(tmp_path)], capture_output=True, text=True)
    assert grep.stdout == ""


def check_mlflow(server: str, sweep: Path, reports: dict[Any, list[dict[str, float]]]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("booster_ray")
    assert experiment is not None
    runs = {
        r.data.tags["booster_ray.id"]: r for r in client.search_runs([experiment.experiment_id])
    }
    assert runs.keys() == {run_id(sweep), *reports}, "one run a trial, and the sweep's"
    parent = runs.pop(run_id(sweep))
    assert parent.info.status == "FINISHED"
    for identity, run in runs.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "env_steps")]
        clean(steps)
        for name in ("episode_return", "score", "wall_seconds"):
            kept = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            told = [(int(r["env_steps"]), r[name]) for r in reports[identity] if name in r]
            if name != "wall_seconds":  # what is made again takes another time
                assert kept == told
            assert [step for step, _ in kept] == [step for step, _ in told]


def check_wandb(sweep: Path, reports: dict[Any, list[dict[str, float]]]) -> None:
    histories = wandb_history(sweep)
    assert histories.keys() == reports.keys()
    files = list((sweep / "wandb").glob("offline-run-*"))
    assert len(files) == TRIALS, "one file a trial to sync"
    for identity, rows in histories.items():
        clean([row["_step"] for row in rows])
        assert [row["env_steps"] for row in rows] == [row["_step"] for row in rows]
        told = [(r["env_steps"], r["score"]) for r in reports[identity] if "score" in r]
        assert [(row["env_steps"], row["score"]) for row in rows if "score" in row] == told
