"""The process beside a run: whatever becomes of it, the run goes on and nothing is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import driving
import psutil
import pytest
from track.told import EVERY, add, make_run, make_sweep, reports, wandb_history

from booster_ray.store.files import run_id
from booster_ray.track import tracker as module
from booster_ray.track.mlflow_sink import MlflowSink
from booster_ray.track.tracked_runs import TrackedFolder
from booster_ray.track.tracker import Tracker

KEY = "5ec2e7" * 7
"""Planted where keys are kept; it must not be found anywhere else."""


def tracker(root: Path, said: list[str]) -> Tracker:
    return Tracker(TrackedFolder(root).sweep.base(), root, said.append)


def every(count: int) -> list[int]:
    return [EVERY * n for n in range(1, count + 1)]


def wandb_steps(root: Path) -> dict[str, list[int]]:
    return {name: [row["_step"] for row in rows] for name, rows in wandb_history(root).items()}


def mlflow_steps(root: Path) -> dict[str, list[int]]:
    client = MlflowSink(TrackedFolder(root).sweep.base(), root)._client
    experiment = client.get_experiment_by_name("booster_ray")
    assert experiment is not None
    return {
        run.data.tags["booster_ray.id"]: [
            m.step for m in client.get_metric_history(run.info.run_id, "env_steps")
        ]
        for run in client.search_runs([experiment.experiment_id])
    }


def test_reports_reach_both_defaults_and_nothing_lands_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", KEY)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    root = make_run(tmp_path / "runs" / "run", 4, env_steps=600,
                    tracking={"close_seconds": 600})  # fmt: skip
    said: list[str] = []
    with tracker(root, said) as told:
        driving.wait_for(lambda: list((root / "wandb").glob("offline-run-*")))
        for process in driving.family(told._process.pid):
            assert KEY not in " ".join(process.cmdline())
        add(root, reports(6)[4:])
    assert said == [
        f"W&B, to send what is offline: wandb sync {root}/wandb/offline-run-*",
        f"MLflow: mlflow ui --backend-store-uri sqlite:///{tmp_path}/runs/mlflow.db",
        "  and then http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=booster_ray",
    ]
    identity = run_id(root)
    assert list(home.iterdir()) == []
    assert wandb_steps(root) == {identity: every(6)}
    assert mlflow_steps(root) == {identity: every(6)}
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"run", "mlflow.db", "mlartifacts"}
    grep = subprocess.run(["grep", "-rl", KEY, str(tmp_path)], capture_output=True, text=True)
    assert grep.stdout == ""


def test_killed_it_is_started_again_and_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.1)
    root = make_run(tmp_path / "run", 4, env_steps=600, tracking={"close_seconds": 600})
    with tracker(root, []) as told:
        driving.wait_for(lambda: list((root / "wandb").glob("offline-run-*")))
        first = told._process.pid
        driving.kill_all(first)
        driving.wait_for(lambda: told._process.pid != first)
        add(root, reports(6)[4:])
    assert wandb_steps(root) == {run_id(root): every(6)}
    assert mlflow_steps(root) == {run_id(root): every(6)}


def test_its_run_killed_it_ends_by_itself_with_all_that_was_reported(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 4, env_steps=600, tracking={"close_seconds": 600})
    text = f"""
        import sys, time
        from pathlib import Path
        from booster_ray.track.tracked_runs import TrackedFolder
        from booster_ray.track.tracker import Tracker
        root = Path({str(root)!r})
        with Tracker(TrackedFolder(root).sweep.base(), root, print) as told:
            print(told._process.pid, flush=True)
            time.sleep(3600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    beside = psutil.Process(int(parent.stdout.readline()))
    driving.wait_for(lambda: list((root / "wandb").glob("offline-run-*")))
    parent.kill()
    parent.communicate()
    driving.wait_for(lambda: not beside.is_running())
    assert wandb_steps(root) == {run_id(root): every(4)}
    assert mlflow_steps(root) == {run_id(root): every(4)}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules are found before those that are installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    return folder


@pytest.mark.parametrize(
    ("what", "body", "line"),
    [
        ("absent", "raise ModuleNotFoundError(\"No module named 'wandb'\")",
         "wandb is not told of anything: ModuleNotFoundError: No module named 'wandb'"),
        ("broken", "raise RuntimeError('half installed')",
         "wandb cannot be told of reports: RuntimeError: half installed; training goes on, what it "
         "misses is kept and sent later."),
    ],
)  # fmt: skip
def test_a_tracker_that_is_absent_or_broken_leaves_the_other(
    tmp_path: Path, packages: Path, what: str, body: str, line: str
) -> None:
    (packages / "wandb.py").write_text(body)
    root = make_run(tmp_path / "run", 4, tracking={"close_seconds": 600})
    said: list[str] = []
    with tracker(root, said):
        driving.wait_for(lambda: said)
    assert said[0] == line
    assert said[1].startswith("MLflow: ")
    assert said[3:] == [
        "wandb has not got 4 reports yet. Later:",
        f"  python -m booster_ray.track run --storage {tmp_path}",
    ]
    assert mlflow_steps(root) == {run_id(root): every(4)}


def test_one_that_hangs_is_left_after_close_seconds_and_told_later(
    tmp_path: Path, packages: Path
) -> None:
    (packages / "wandb.py").write_text("import time; time.sleep(3600)")
    root = make_run(tmp_path / "run", 4, tracking={"close_seconds": 1})
    said: list[str] = []
    began = time.monotonic()
    with tracker(root, said) as told:
        driving.wait_for(lambda: any((tmp_path / "mlartifacts").glob("*/*/config.yaml")))
        process = told._process
        began = time.monotonic()
    assert process.poll() is not None
    assert time.monotonic() - began < 60  # against hanging for an hour
    assert "wandb has not got 4 reports yet" in " ".join(said)
    (packages / "wandb.py").unlink()
    code, output = driving.run("run", "--storage", str(tmp_path), module="track")
    assert code == 0, output
    assert wandb_steps(root) == {run_id(root): every(4)}
    assert mlflow_steps(root) == {run_id(root): every(4)}


def test_a_full_disk_stops_trackers_alone(tmp_path: Path) -> None:
    """No file of the tracking processes may grow any more, as if their disk were full."""
    root = make_run(tmp_path / "run", 4, env_steps=600, tracking={"close_seconds": 600})
    said: list[str] = []
    with tracker(root, said) as told:
        driving.wait_for(lambda: any((tmp_path / "mlartifacts").glob("*/*/config.yaml")))
        driving.wait_for(lambda: list((root / "wandb").glob("offline-run-*")))
        for process in driving.family(told._process.pid):
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        add(root, reports(6)[4:])
        driving.wait_for(lambda: said)
    assert "has not got" in " ".join(said)
    code, output = driving.run("run", "--storage", str(tmp_path), module="track")
    assert code == 0, output
    assert wandb_steps(root) == {run_id(root): every(6)}
    assert mlflow_steps(root) == {run_id(root): every(6)}


def test_without_listeners_there_is_no_process(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 2, tracking={"listeners": []})
    said: list[str] = []
    with tracker(root, said) as told:
        assert told._process is None
    assert said == []
    assert {path.name for path in root.iterdir()} == {"config.yaml", "progress.jsonl", "run_id"}


def test_a_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    make_sweep(tmp_path / "sweep", trials=1, count=1)
    code, output = driving.run("sweeq", "--storage", str(tmp_path), module="track")
    assert code == 2
    assert output.startswith("error: command line: ")
    assert "sweep" in output
    assert "Traceback" not in output


def test_what_trains_does_not_load_trackers(tmp_path: Path) -> None:
    """They cost seconds and 200 MB, and hold the interpreter while they load."""
    text = """
        import sys
        import booster_ray.train.command, booster_ray.train.preemption, booster_ray.tune.sweep
        from booster_ray.track import tracker
        from booster_ray.train import watch
        loaded = {"mlflow", "wandb", "tensorboardX"} & set(sys.modules)
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(text)], check=True)


def test_a_password_of_an_address_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", KEY)
    tracking = {"listeners": ["mlflow"], "mlflow": {"uri": "http://me:${PLANTED}@127.0.0.1:9"}}
    root = make_run(tmp_path / "run", 2, tracking=tracking)
    said: list[str] = []
    with tracker(root, said):
        driving.wait_for(lambda: said)
    assert said[0].startswith("mlflow (http://127.0.0.1:9) cannot be told of reports: ")
    assert "mlflow has not got 2 reports yet. Later:" in said
    assert KEY not in " ".join(said)
    grep = subprocess.run(["grep", "-rl", KEY, str(tmp_path)], capture_output=True, text=True)
    assert grep.stdout == ""


def test_a_machine_that_is_taken_away_does_not_wait(tmp_path: Path, packages: Path) -> None:
    (packages / "wandb.py").write_text("import time; time.sleep(3600)")
    root = make_run(tmp_path / "run", 4, env_steps=600, tracking={"close_seconds": 3600})
    said: list[str] = []
    with tracker(root, said) as told:
        process = told._process
        told.hurried = True
    assert process.poll() is not None
    assert "wandb has not got 4 reports yet" in " ".join(said) or "Trackers have not got" in said[0]
