"""TensorBoard's event files, read back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from track.told import EVERY, add, make_run, make_sweep, reports, rewind

from booster_ray.track.tensorboard_sink import FOLDER, TensorboardSink
from booster_ray.track.tracked_runs import TrackedFolder
from booster_ray.track.uploader import RunRows


def serve(told: TensorboardSink, root: Path) -> int:
    """Tell all that it has not got; how many rows that was."""
    board, count = TrackedFolder(root), 0
    for subject in board.subjects():
        rows = RunRows(subject.directory, told.open(subject, -1)).read()
        if rows:
            told.send(subject, rows)
        told.close(subject, board.state(subject))
        count += len(rows)
    return count


def events(folder: Path) -> Iterator[Any]:
    """Of the files there: TFRecords, each length (8 bytes), its CRC, an Event and its CRC."""
    for file in sorted(folder.iterdir(), key=lambda path: int(path.suffix[1:])):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """(env steps, value)."""
    return [
        (event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.tag == name
    ]


def every(count: int) -> list[int]:
    return [EVERY * n for n in range(1, count + 1)]


def test_numbers_stand_at_their_env_steps_and_times(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 6)
    told = TensorboardSink(root)
    assert serve(told, root) == 6
    folder = root / FOLDER / "run"
    assert [step for step, _ in scalars(folder, "critic_loss")] == every(6)
    assert scalars(folder, "score") == [(300, 0.0), (600, 3.0)]
    (subject,) = TrackedFolder(root).subjects()
    times = [e.wall_time for e in events(folder) if e.summary.value]
    assert times[0] == pytest.approx(subject.began + 10.0)
    assert str(root / FOLDER) in told.farewell()


def test_each_trial_has_a_folder_and_the_sweep_none(tmp_path: Path) -> None:
    root = make_sweep(tmp_path / "sweep", trials=2, count=3)
    serve(TensorboardSink(root), root)
    assert sorted(path.name for path in (root / FOLDER).iterdir()) == ["0000", "0001"]
    for name in ("0000", "0001"):
        assert [step for step, _ in scalars(root / FOLDER / name, "env_steps")] == every(3)


def test_a_run_that_goes_on_from_a_checkpoint_repeats_nothing(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", 5, env_steps=1000)
    told = TensorboardSink(root)
    serve(told, root)
    rewind(root, 3)
    add(root, reports(8)[3:])
    assert serve(told, root) == 3
    assert [step for step, _ in scalars(root / FOLDER / "run", "env_steps")] == every(8)


def test_another_process_writes_the_file_whole(tmp_path: Path) -> None:
    """The one before may have been killed in the middle of an event."""
    root = make_run(tmp_path / "run", 4, env_steps=1000)
    serve(TensorboardSink(root), root)
    (file,) = (root / FOLDER / "run").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert serve(TensorboardSink(root), root) == 4
    assert [step for step, _ in scalars(root / FOLDER / "run", "env_steps")] == every(4)
