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


def test_killed_it_is_started_again_and_outlives_its_run_until_all_is_told(
    tmp_path: Path, begun_mlflow: Path
) -> None:
    root = make_run(tmp_path / "run", 4, env_steps=600, tracking={"close_seconds": 600})
    text = f"""
        import time
        from pathlib import Path
        from booster_ray.track import tracker
        from booster_ray.track.tracked_runs import TrackedFolder
        tracker.PAUSE_SECONDS = 0.1
        root, known = Path({str(root)!r}), None
        with tracker.Tracker(TrackedFolder(root).sweep.base(), root, print) as told:
            while True:
                if told._process.pid != known:
                    known = told._process.pid
                    print(known, flush=True)
                time.sleep(0.02)
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    first = int(run.stdout.readline())
    driving.wait_for(lambda: list((root / "wandb").glob("offline-run-*")))
    driving.kill_all(first)
    second = psutil.Process(int(run.stdout.readline()))
    assert second.pid != first
    add(root, reports(6)[4:])
    run.kill()
    run.communicate()
    driving.wait_for(lambda: not second.is_running())
    assert wandb_steps(root) == {run_id(root): every(6)}
    assert mlflow_steps(root) == {run_id(root): every(6)}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules are found before those that are installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    return folder


def test_a_tracker_that_is_absent_or_broken_leaves_the_others(
    tmp_path: Path, packages: Path, begun_mlflow: Path
) -> None:
    (packages / "wandb.py").write_text("raise ModuleNotFoundError(\"No module named 'wandb'\")")
    (packages / "tensorboardX.py").write_text("raise RuntimeError('half installed')")
    listeners = ["wandb", "tensorboard", "mlflow"]
    tracking = {"close_seconds": 600, "listeners": listeners}
    root = make_run(tmp_path / "run", 4, tracking=tracking)
    said: list[str] = []
    with tracker(root, said):
        driving.wait_for(lambda: len(said) >= 2)
    assert set(said[:2]) == {
        "wandb is not told of anything: ModuleNotFoundError: No module named 'wandb'",
        "tensorboard cannot be told of reports: RuntimeError: half installed; training goes on, "
        "what it misses is kept and sent later.",
    }
    assert said[2].startswith("MLflow: ")
    assert said[4:] == [
        "wandb has not got 4 reports yet; tensorboard has not got 4 reports yet. Later:",
        f"  python -m booster_ray.track run --storage {tmp_path}",
    ]
    assert mlflow_steps(root) == {run_id(root): every(4)}


def test_one_that_hangs_is_left_after_close_seconds_and_told_later(
    tmp_path: Path, packages: Path, begun_mlflow: Path
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


def test_a_full_disk_stops_trackers_alone(tmp_path: Path, begun_mlflow: Path) -> None:
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
    done = driving.inside("run", "--storage", str(tmp_path), module="track")
    assert done.returncode == 0, done.stdout + done.stderr
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
    done = driving.inside("sweeq", "--storage", str(tmp_path), module="track")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: command line: ")
    assert "sweep" in done.stderr and "Traceback" not in done.stderr


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
    tracking = {"close_seconds": 3600, "listeners": ["wandb"]}
    root = make_run(tmp_path / "run", 4, env_steps=600, tracking=tracking)
    said: list[str] = []
    with tracker(root, said) as told:
        process = told._process
        told.hurried = True
    assert process.poll() is not None
    assert "wandb has not got 4 reports yet" in " ".join(said) or "Trackers have not got" in said[0]
