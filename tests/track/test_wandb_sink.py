"""W&B's own offline files, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from track.told import EVERY, add, make_run, make_sweep, reports, wandb_history, wandb_run

from booster_ray.store.files import ERROR, run_id
from booster_ray.track.tracked_runs import TrackedFolder
from booster_ray.track.uploader import RunRows
from booster_ray.track.wandb_sink import WandbSink, last_step, records


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B reads the environment once a process, unless it is torn down."""
    for name in ("WANDB_BASE_URL", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield
    import wandb

    wandb.teardown()


def listener(root: Path, said: list[str] | None = None) -> WandbSink:
    settings = TrackedFolder(root).sweep.base().tracking.wandb
    return WandbSink(settings, root, (said if said is not None else []).append)


def serve(told: WandbSink, root: Path, *, close: bool = True) -> int:
    """Tell all that it has not got; how many rows that was."""
    board, count = TrackedFolder(root), 0
    for subject in board.subjects():
        whole = RunRows(subject.directory)
        whole.read()
        rows = RunRows(subject.directory, told.open(subject, whole.given)).read()
        if rows:
            told.send(subject, rows)
        told.update(subject, board.state(subject))
        if close:
            told.close(subject, board.state(subject))
        count += len(rows)
    return count


def every(count: int) -> list[int]:
    return [EVERY * n for n in range(1, count + 1)]


def test_a_run_that_goes_on_is_one_file_without_gap_or_repetition(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 5, env_steps=1000)
    assert serve(listener(root), root) == 5
    add(root, reports(8)[5:])
    assert serve(listener(root), root) == 8  # written whole
    ((identity, rows),) = wandb_history(root).items()
    assert identity == run_id(root)
    assert [row["env_steps"] for row in rows] == [row["_step"] for row in rows] == every(8)
    assert [row["best_score"] for row in rows if "best_score" in row] == [0.0, 3.0]
    assert len(list((root / "wandb").glob("offline-run-*"))) == 1


def test_what_an_earlier_process_wrote_whole_is_left_alone(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 5)
    serve(listener(root), root)
    (folder,) = (root / "wandb").glob("offline-run-*")
    assert serve(listener(root), root) == 0
    assert list((root / "wandb").glob("offline-run-*")) == [folder]


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 3, env_steps=1000)
    torn = root / "wandb" / f"offline-run-20200101_000000-{run_id(root)}"
    torn.mkdir(parents=True)
    (torn / f"run-{run_id(root)}.wandb").write_bytes(b":W&B\x00\x00\x00")
    assert serve(listener(root), root) == 3
    (rows,) = wandb_history(root).values()
    assert [row["_step"] for row in rows] == every(3)
    assert not torn.exists()


def test_trials_are_grouped_and_carry_settings_and_lineage(tmp_path: Path) -> None:
    root = make_sweep(tmp_path / "sweep", trials=2, count=3)
    serve(listener(root), root)
    trial = root / "trials" / "0001"
    run = wandb_run(root, run_id(trial) or "")
    assert (run.display_name, run.run_group, run.job_type) == ("sweep/0001", "sweep", "pretrain")
    assert (run.project, set(run.tags)) == ("booster_ray", {"level 0", "pretrain"})
    settings = {item.key: item.value_json for item in run.config.update}
    assert '"height":0.75' in settings["rewards"].replace(" ", "")
    assert "config_hash" in settings["lineage"]
    assert len(wandb_history(root)) == 2


def test_an_unreachable_server_is_said_once_and_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    settings = {"tracking": {"wandb": {"mode": "online"}}}
    root = make_sweep(tmp_path / "sweep", trials=2, count=3, **settings)
    said: list[str] = []
    serve(listener(root, said), root)
    (line,) = said
    assert f"wandb sync {root}/wandb/offline-run-*" in line
    assert "0" * 40 not in line
    assert [[row["_step"] for row in rows] for rows in wandb_history(root).values()] == [
        every(3), every(3)
    ]  # fmt: skip


def test_without_a_key_it_is_offline_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    root = make_run(tmp_path / "run", 2, tracking={"wandb": {"mode": "online"}})
    said: list[str] = []
    assert serve(listener(root, said), root) == 2
    assert "wandb sync" in said[0]


def test_a_file_that_is_not_whole_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a full disk W&B says nothing."""
    root = make_run(tmp_path / "run", 3)
    board, told = TrackedFolder(root), listener(root)
    (subject,) = board.subjects()
    told.open(subject, 300)
    told.send(subject, RunRows(root).read())
    run = told._runs[subject.id]

    def finish(**_: object) -> None:
        type(run).finish(run)
        (file,) = (root / "wandb").glob("offline-run-*/run-*.wandb")
        driving.wait_for(lambda: last_step(file) == 300)
        file.write_bytes(file.read_bytes()[:100])

    monkeypatch.setattr(run, "finish", finish)
    monkeypatch.setattr("booster_ray.track.wandb_sink.WRITING_SECONDS", 1.0)
    with pytest.raises(OSError, match="is not whole"):
        told.close(subject, board.state(subject))
    assert told.open(subject, 300) == -1  # written anew
    told.send(subject, RunRows(root).read())
    told.close(subject, board.state(subject))
    assert [[row["_step"] for row in rows] for rows in wandb_history(root).values()] == [every(3)]


def test_a_failure_is_an_alert(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 2, env_steps=500)
    (root / ERROR).write_text("TrainingDiverged: critic loss is nan")
    serve(listener(root), root)
    (file,) = (root / "wandb").glob("offline-run-*/run-*.wandb")
    (alert,) = [record.alert for record in records(file) if record.HasField("alert")]
    assert (alert.title, alert.text) == ("run", "failed: TrainingDiverged: critic loss is nan")
