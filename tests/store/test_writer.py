"""Writing behind a run's back: what it waits for, and what becomes of errors."""

import errno
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from store.ring import Ring, expected
from store.unsynced import without_folder_sync

from booster_ray.store import writer
from booster_ray.store.checkpoint import load, save, store
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.checkpoint.store import segments
from booster_ray.store.remote import StorageError
from booster_ray.store.writer import Writer

FULL = OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """Stands before `store.write`: holds writes up, or fails them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.fail: OSError | None = None
        self.begun: list[str] = []

    def __call__(self, path: Path, staged: store.Staged) -> int:
        self.begun.append(path.name)
        assert self.open.wait(30)
        if self.fail is not None:
            raise self.fail
        return store.write(path, staged)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(writer, "write", found)
    monkeypatch.setattr(writer, "FINAL_SECONDS", 0.0)
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("[!.]*_*"))


def test_saving_returns_before_it_is_written_and_the_state_may_go_on(
    disk: Disk, tmp_path: Path
) -> None:
    disk.open.clear()
    weights, ring = np.zeros(3), Ring(6)
    saver = Writer(tmp_path, keep=2)
    saver.save("step_6", lambda: {"w": weights, **ring.tree()}, {"env_steps": 6})
    weights[:] = 1
    ring.added = 100
    assert names(tmp_path) == []
    disk.open.set()
    saver.finish()
    tree, metadata = load(tmp_path / "step_6")
    np.testing.assert_array_equal(tree["w"], np.zeros(3))
    np.testing.assert_array_equal(tree["log"], expected(0, 6))
    assert metadata == {"env_steps": 6}
    saver.close()


def test_a_second_full_checkpoint_waits_for_the_first(disk: Disk, tmp_path: Path) -> None:
    disk.open.clear()
    saver, ring = Writer(tmp_path, keep=2), Ring(4)
    saver.save("step_4", ring.tree, {})
    ring.added = 7

    def second() -> None:
        saver.save("step_7", ring.tree, {})

    waiting = threading.Thread(target=second)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    assert disk.begun == ["step_4"]
    disk.open.set()
    waiting.join()
    saver.finish()
    # Only because it waited does it know what is on disk already.
    assert [s["start"] for s in segments(tmp_path / "step_7")["log"]] == [0, 4]
    saver.close()


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    saver, ring = Writer(tmp_path, keep=2), Ring()
    for step in (3, 6, 9, 30):
        ring.added = step
        saver.save(f"best_{step}", lambda: {"w": np.ones(1)}, {})
        saver.save(f"step_{step}", ring.tree, {})
    saver.finish()
    assert names(tmp_path) == ["best_30", "step_30", "step_9"]
    listed = {s["file"] for n in (9, 30) for s in segments(tmp_path / f"step_{n}")["log"]}
    assert {file.name for file in (tmp_path / SEGMENTS).iterdir()} == listed
    saver.close()


def test_what_failed_is_warned_of_and_written_later(disk: Disk, tmp_path: Path) -> None:
    saver, ring = Writer(tmp_path, keep=2), Ring(4)
    disk.fail = FULL
    with pytest.warns(UserWarning, match="_4: not written: No space left"):
        saver.save("best_4", lambda: {"w": np.ones(1)}, {})
        saver.save("step_4", ring.tree, {})
        assert saver._settled() is FULL
    assert saver.behind
    disk.fail, ring.added = None, 30
    saver.retry()
    assert saver._settled() is None
    assert not saver.behind
    assert names(tmp_path) == ["best_4", "step_4"]
    np.testing.assert_array_equal(load(tmp_path / "step_4")[0]["log"], expected(0, 4))
    saver.close()


def test_a_newer_checkpoint_takes_the_place_of_one_that_failed(disk: Disk, tmp_path: Path) -> None:
    saver, ring = Writer(tmp_path, keep=2), Ring(4)
    saver.save("step_4", ring.tree, {})
    saver.finish()
    disk.fail, ring.added = FULL, 7
    saver.save("step_7", ring.tree, {})
    with pytest.warns(UserWarning, match="step_7"):
        assert saver._settled() is FULL
    # What the failed one had written of the log takes no room.
    assert len(list((tmp_path / SEGMENTS).iterdir())) == 1
    disk.fail, ring.added = None, 9
    saver.save("step_9", ring.tree, {})
    saver.finish()
    assert names(tmp_path) == ["step_4", "step_9"]
    assert [s["start"] for s in segments(tmp_path / "step_9")["log"]] == [0, 4]
    saver.close()


def test_the_last_checkpoint_must_be_written(disk: Disk, tmp_path: Path) -> None:
    disk.fail = FULL
    saver = Writer(tmp_path, keep=2)
    saver.save("step_4", Ring(4).tree, {})
    with pytest.warns(UserWarning), pytest.raises(OSError, match="No space left"):
        saver.finish()
    saver.close()
    assert names(tmp_path) == []


def test_the_last_checkpoint_is_tried_again(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(_: float) -> None:
        disk.fail = None  # the outage ends

    monkeypatch.setattr(writer, "FINAL_SECONDS", 30.0)
    monkeypatch.setattr(writer.time, "sleep", pause)
    disk.fail = FULL
    saver = Writer(tmp_path, keep=2)
    saver.save("step_4", Ring(4).tree, {})
    with pytest.warns(UserWarning):
        saver.finish()
    assert disk.begun == ["step_4", "step_4"]
    assert names(tmp_path) == ["step_4"]
    saver.close()


def test_a_full_disk_at_any_file_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 1st, 2nd, … array or segment that is written does not fit."""
    from booster_ray.store.checkpoint import log

    monkeypatch.setattr(writer, "FINAL_SECONDS", 0.0)
    ring = Ring(4)
    saver = Writer(tmp_path, keep=2)
    saver.save("step_4", lambda: {"w": np.ones(3), **ring.tree()}, {})
    saver.finish()
    before = sorted(tmp_path.rglob("*"))
    ring.added, real = 7, log.write_array
    for module in (log, store):
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise FULL

            patch.setattr(module, "write_array", full)
            saver.save("step_7", lambda: {"w": np.ones(3), **ring.tree()}, {})
            with pytest.warns(UserWarning), pytest.raises(OSError, match="No space"):
                saver.finish()
            assert sorted(tmp_path.rglob("*")) == before
    assert log.write_array is real
    saver.retry()
    saver.finish()
    np.testing.assert_array_equal(load(tmp_path / "step_7")[0]["log"], expected(0, 7))
    saver.close()


def test_a_lost_segment_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody cleaned up: the checkpoint after holds all rows again."""
    monkeypatch.setattr(writer, "FINAL_SECONDS", 0.0)
    saver, ring = Writer(tmp_path, keep=2), Ring(4)
    saver.save("step_4", ring.tree, {})
    saver.finish()
    for file in (tmp_path / SEGMENTS).iterdir():
        file.unlink()
    ring.added = 7
    saver.save("step_7", ring.tree, {})
    with pytest.warns(UserWarning, match="step_7: not written"):
        saver._settled()
    ring.added = 9
    saver.save("step_9", ring.tree, {})
    saver.finish()
    np.testing.assert_array_equal(load(tmp_path / "step_9")[0]["log"], expected(0, 9))
    saver.close()


def test_restoring_goes_on_from_the_segments_of_what_was_restored(tmp_path: Path) -> None:
    first, ring = Writer(tmp_path, keep=2), Ring(4)
    first.save("step_4", ring.tree, {})
    ring.added = 6
    first.save("step_6", ring.tree, {})
    first.close()
    (tmp_path / "step_6" / "manifest.json").write_text("{")
    second = Writer(tmp_path, keep=2)
    with pytest.warns(UserWarning, match="step_6"):
        found = second.restore()
    assert found is not None
    assert found[2].name == "step_4"
    # The same step again, as after a resume: the damaged one is replaced.
    second.save("step_6", ring.tree, {})
    second.finish()
    assert [s["start"] for s in segments(tmp_path / "step_6")["log"]] == [0, 4]
    np.testing.assert_array_equal(load(tmp_path / "step_6")[0]["log"], expected(0, 6))
    second.close()


def test_a_mistake_in_the_state_is_raised_where_it_is_saved(tmp_path: Path) -> None:
    saver = Writer(tmp_path, keep=2)
    with pytest.raises(TypeError, match="'w' is a object"):
        saver.save("step_1", lambda: {"w": object()}, {})
    saver.save("step_2", lambda: {"w": np.ones(1)}, {})
    saver.close()
    assert names(tmp_path) == ["step_2"]


def test_what_checkpoints_cost_is_counted(tmp_path: Path) -> None:
    saver, ring = Writer(tmp_path, keep=2), Ring(4)
    saver.save("step_4", ring.tree, {})
    saver.close()
    first = saver.bytes_written
    on_disk = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert first == on_disk
    assert saver.stalled_seconds > 0


# --- file systems that cannot ---


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def test_folders_that_cannot_be_synced_hold_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    without_folder_sync(monkeypatch, error)
    saver, ring = Writer(tmp_path, keep=2), Ring(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saver.save("step_4", ring.tree, {})
        saver.finish()
    np.testing.assert_array_equal(load(tmp_path / "step_4")[0]["log"], expected(0, 4))
    saver.close()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_fails_to_be_synced_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    without_folder_sync(monkeypatch, error)
    with pytest.raises(OSError) as raised:
        save(tmp_path / "step_1", {"w": np.ones(1)})
    assert raised.value.errno == error
    assert names(tmp_path) == []


def test_a_file_that_cannot_be_synced_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Invalid argument"):
        save(tmp_path / "step_1", {"w": np.ones(1)})


@pytest.mark.parametrize(
    ("number", "due"), [(errno.EINVAL, 2), (errno.EROFS, 2), (errno.EIO, writer.MISSED + 1)]
)
def test_a_run_does_not_train_on_without_checkpoints(
    disk: Disk, tmp_path: Path, number: int, due: int
) -> None:
    disk.fail = OSError(number, os.strerror(number))
    saver, ring = Writer(tmp_path, keep=2), Ring()
    with pytest.warns(UserWarning, match="not written"):
        for step in range(1, due):
            ring.added = step
            saver.save(f"step_{step}", ring.tree, {})
            saver.retry()
        with pytest.raises(StorageError, match=f"step_{due - 1}.*: {os.strerror(number)}; train"):
            saver.save(f"step_{due}", ring.tree, {})
        saver.close()
    assert disk.begun.count(f"step_{due - 1}") >= 2  # it was tried again


def test_what_is_written_in_between_is_a_new_beginning(disk: Disk, tmp_path: Path) -> None:
    saver, ring = Writer(tmp_path, keep=2), Ring()
    with pytest.warns(UserWarning, match="not written"):
        for step in range(1, 3 * writer.MISSED):
            disk.fail = None if step % writer.MISSED == 0 else FULL
            ring.added = step
            saver.save(f"step_{step}", ring.tree, {})
            saver._settled()
        disk.fail = None
        saver.retry()
        saver.finish()
    assert names(tmp_path)[0] == f"step_{2 * writer.MISSED}"
    saver.close()
