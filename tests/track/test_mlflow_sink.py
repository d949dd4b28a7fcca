"""Against a real SQLite store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from track.told import EVERY, add, make_run, make_sweep, reports

from booster_ray.track.mlflow_sink import BATCH_METRICS, MlflowSink
from booster_ray.track.tracked_runs import TrackedFolder, TrackedRun
from booster_ray.track.uploader import RunRows
from booster_ray.track.where import mlflow_uri, tracked


@pytest.fixture
def storage(begun_mlflow: Path) -> Path:
    return begun_mlflow.parent


def listener(root: Path) -> MlflowSink:
    return MlflowSink(TrackedFolder(root).sweep.base(), root)


def client(root: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(mlflow_uri(TrackedFolder(root).sweep.base()))


def runs(root: Path) -> list[Any]:
    found = client(root)
    experiment = found.get_experiment_by_name("booster_ray")
    return list(found.search_runs([experiment.experiment_id]))


def serve(told: MlflowSink, subject: TrackedRun, board: TrackedFolder) -> int:
    """Everything that it has not got; how many rows that was."""
    count = 0
    run_rows = RunRows(subject.directory, told.open(subject, -1))
    while rows := run_rows.read():
        told.send(subject, rows)
        count += len(rows)
    told.update(subject, board.state(subject))
    return count


def history(root: Path, run: Any, metric: str) -> list[int]:
    return [m.step for m in client(root).get_metric_history(run.info.run_id, metric)]


def test_a_new_process_goes_on_in_the_same_run_where_the_last_one_ended(storage: Path) -> None:
    root = make_run(storage / "run", 5, env_steps=1000)
    board = TrackedFolder(root)
    (subject,) = board.subjects()
    assert serve(listener(root), subject, board) == 5
    add(root, reports(8)[5:])
    assert serve(listener(root), subject, board) == 3
    assert serve(listener(root), subject, board) == 0
    (run,) = runs(root)
    assert history(root, run, "critic_loss") == [EVERY * n for n in range(1, 9)]
    assert tracked(root)["mlflow_run"] == run.info.run_id
    assert run.info.status == "RUNNING"


def test_a_run_copied_to_another_machine_goes_on_in_the_same_run(storage: Path) -> None:
    """Nothing but the id and the reports is needed."""
    root = make_run(storage / "run", 5, env_steps=1000)
    board = TrackedFolder(root)
    serve(listener(root), board.subjects()[0], board)
    elsewhere = make_run(storage / "elsewhere" / "run", 7, env_steps=1000,
                         tracking={"mlflow": {"uri": mlflow_uri(board.sweep.base())}})  # fmt: skip
    (elsewhere / "run_id").write_text((root / "run_id").read_text())
    board = TrackedFolder(elsewhere)
    assert serve(listener(elsewhere), board.subjects()[0], board) == 2
    assert len(runs(root)) == 1


def test_batches_larger_than_mlflow_takes(storage: Path) -> None:
    root = make_run(storage / "run", 0, env_steps=10**6)
    wide = [{**r, **{f"loss/{i}": float(i) for i in range(60)}} for r in reports(40)]
    add(root, wide)
    assert len(wide) * 63 > 2 * BATCH_METRICS
    board = TrackedFolder(root)
    serve(listener(root), board.subjects()[0], board)
    (run,) = runs(root)
    assert history(root, run, "loss/7") == [EVERY * n for n in range(1, 41)]


def test_trials_lie_below_the_sweep_with_settings_and_lineage(storage: Path) -> None:
    root = make_sweep(storage / "sweep", trials=2, count=4, randomization={"level": 2})
    board, told = TrackedFolder(root), listener(root)
    for subject in board.subjects():
        serve(told, subject, board)
        told.close(subject, board.state(subject))
    by_name = {run.info.run_name: run for run in runs(root)}
    assert by_name.keys() == {"sweep", "sweep/0000", "sweep/0001"}
    parent, trial = by_name["sweep"], by_name["sweep/0001"]
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    assert float(trial.data.params["rewards.height"]) == 0.75
    assert trial.data.params["sac.batch_size"] == "512"
    lineage = {"stage": "pretrain", "dr_level": "2", "parent_model": "none"}
    assert lineage.items() <= trial.data.tags.items()
    assert (
        trial.data.tags["config_hash"]
        == TrackedFolder(root / "trials" / "0001").sweep.base().digest()
    )
    assert trial.data.tags["mlflow.note.content"] == "rewards.height = 0.75"
    assert trial.info.status == "FINISHED"
    assert trial.data.metrics["best_score"] == 0.0
    files = [file.path for file in client(root).list_artifacts(trial.info.run_id)]
    assert files == ["config.yaml"]
    assert (storage / "mlartifacts").is_dir()
    assert parent.data.params["rewards.height"] == "0.5 … 2.0"


def test_the_experiment_has_a_view_with_what_a_person_looks_for(storage: Path) -> None:
    root = make_sweep(storage / "sweep", trials=1, count=3)
    board, told = TrackedFolder(root), listener(root)
    for subject in board.subjects():
        serve(told, subject, board)
    tags = client(root).get_experiment_by_name("booster_ray").tags
    view = json.loads(tags["mlflow.sharedViewState.booster_ray"])
    assert view["orderByKey"] == "metrics.`best_score`"
    columns = view["selectedColumns"]
    assert {"metrics.`best_score`", "params.`rewards.height`", "tags.`gates`"} <= set(columns)
    assert told.farewell().endswith("/runs?viewStateShareKey=booster_ray")


def test_a_stopped_run_is_not_running_and_goes_on(storage: Path) -> None:
    root = make_run(storage / "run", 2, env_steps=1000)
    board, told = TrackedFolder(root), listener(root)
    (subject,) = board.subjects()
    serve(told, subject, board)
    told.close(subject, board.state(subject))
    assert runs(root)[0].info.status == "KILLED"
    serve(listener(root), subject, board)
    assert runs(root)[0].info.status == "RUNNING"


def test_the_environment_says_where_unless_the_config_does(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_run(storage / "run", 0, env_steps=100)
    config = TrackedFolder(root).sweep.base()
    assert mlflow_uri(config) == f"sqlite:///{storage}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example:5000")
    assert mlflow_uri(config) == "http://example:5000"
    monkeypatch.setenv("DB_PASSWORD", "planted")
    uri = "postgresql://me:${DB_PASSWORD}@host/db"
    given = make_run(storage / "given", 0, env_steps=100, tracking={"mlflow": {"uri": uri}})
    assert mlflow_uri(TrackedFolder(given).sweep.base()) == "postgresql://me:planted@host/db"
