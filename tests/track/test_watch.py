"""What stands beside a run: readings in its folder, versions along the way, and never an error."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from track.made import run_folder

from booster_ray.config import Config, load
from booster_ray.store.files import SYSTEM
from booster_ray.store.lease import take
from booster_ray.store.local import LocalFolder
from booster_ray.track.registry_mlflow import MlflowRegistry
from booster_ray.train.publish import LOG, Publisher, located, publish_best, wanted, writes_here
from booster_ray.train.watch import Watching


def report(env_steps: int) -> dict[str, Any]:
    return {"env_steps": env_steps, "env_steps_per_second": 10.0}


def test_readings_go_into_the_run_s_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Watching(Config(), run) as watching:
        for steps in (0, 1000, 2000):
            watching.report(report(steps), 0.0)
            deadline = time.monotonic() + 60
            while not (run / SYSTEM).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
    rows = [json.loads(line) for line in (run / SYSTEM).read_text().splitlines()]
    assert rows[0]["env_steps"] == 0 and len(rows[0]) > 1
    assert all(isinstance(number, int | float) for number in rows[0].values())
    assert [row["env_steps"] for row in rows] == sorted(row["env_steps"] for row in rows)


def test_whatever_fails_beside_a_run_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no dashboard")

    monkeypatch.setattr("booster_ray.train.watch.RayMetrics.update", broken)
    run = tmp_path / "run"
    with Watching(Config(), run) as watching:
        shutil.rmtree(run)  # a disk that is gone: readings cannot be written
        for steps in (0, 1000, 2000):
            watching.report(report(steps), 0.0)
    said = [r for r in caplog.records if "watched no more" in r.message]
    assert len(said) == 1


def test_an_error_of_the_run_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Watching(Config(), tmp_path / "run"):
        raise ZeroDivisionError


def test_versions_are_made_where_runs_are_tracked() -> None:
    assert wanted(Config())
    for changed in (
        {"models": {"registry": "none"}}, {"tracking": {"listeners": ["wandb"]}},
        {"tracking": {"listeners": []}},
    ):  # fmt: skip
        assert not wanted(Config.model_validate(changed))


def test_the_registry_lies_beside_the_runs_wherever_a_trial_stands(tmp_path: Path) -> None:
    trial = tmp_path / "results" / "sweep" / "trials" / "0003"
    assert located(Config(), trial).storage == str(tmp_path / "results")
    assert located(Config(), tmp_path / "results" / "run").storage == str(tmp_path / "results")
    remote = Config(storage="s3://bucket/runs")
    assert located(remote, trial) is remote


def test_what_cannot_be_registered_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said: list[str] = []
    assert publish_best(Config(), tmp_path / "nothing", said.append) is None and said == []
    run = run_folder(tmp_path / "run")
    away = Config.model_validate({"tracking": {"mlflow": {"uri": "http://127.0.0.1:9"}}})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert publish_best(away, run, said.append) is None
    assert len(said) == 1 and said[0].startswith("No version of the model: http://127.0.0.1:9: ")
    (run / "best_000000000400" / "manifest.json").write_text("{")
    assert publish_best(away, run, said.append) is None
    assert "manifest.json: not JSON" in said[1] and "\n" not in said[1]


def test_an_sqlite_registry_is_written_from_the_drivers_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config, trial = Config(storage=str(tmp_path)), tmp_path / "sweep" / "trials" / "0003"
    assert writes_here(config, trial)
    take(LocalFolder(tmp_path / "sweep"), "driver")
    assert writes_here(config, trial)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert not writes_here(config, trial)
    served = Config.model_validate({"tracking": {"mlflow": {"uri": "http://mlflow:5000"}}})
    assert writes_here(served, trial)


@pytest.mark.slow
def test_every_second_checkpoint_the_best_becomes_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = run_folder(
        tmp_path / "run", models={"every": 2, "name": "along"},
        checkpoint={"every_env_steps": 100}, training={"env_steps": 1000},
    )  # fmt: skip
    (run / "progress.jsonl").unlink()
    publisher = Publisher(load(run / "config.yaml").base(), run)
    for steps in (0, 50, 100, 150):
        publisher.observe(steps)
    assert not (run / LOG).exists()
    publisher.observe(200)
    publisher.close(wait=True)
    assert "Registered as along version 1" in (run / LOG).read_text()
    publisher.observe(390)
    publisher.observe(410)  # the same policy
    publisher.close(wait=True)
    assert "it is version 1 already" in (run / LOG).read_text()
    (version,) = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db").versions("along")
    assert version.tags["run"] == "run"
