"""The driver waits for its storage, and for nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy.exc

from booster_ray.store import durable, failure
from booster_ray.store.durable import replace_text
from booster_ray.store.files import SWEEP
from booster_ray.store.remote import StorageError
from booster_ray.tune import patience
from booster_ray.tune.patience import StorageLost, patiently, reachable
from booster_ray.tune.population import copy_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / SWEEP).touch()
    return tmp_path


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What was waited; nobody waits."""
    made: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    yield made


def fails_twice(call: Callable[[], object], error: Exception) -> Callable[[], object]:
    left = [error, error]

    def called() -> object:
        if left:
            raise left.pop()
        return call()

    return called


@pytest.mark.parametrize(
    "error",
    [
        StorageError("s3://bucket: no route to host"),
        StorageError(errno.EIO, "Input/output error", "x"),
        sqlalchemy.exc.OperationalError("select", {}, Exception("locked")),
    ],
)
def test_storage_that_comes_back_is_waited_for(error: Exception, pauses: list[float]) -> None:
    assert patiently(fails_twice(lambda: 5, error)) == 5
    assert len(pauses) == 2


def test_a_plain_error_out_of_the_store_room_is_storages(
    sweep: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.fsync, [0, 0]

    def full(descriptor: int) -> None:
        if left:
            left.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", full)
    patiently(lambda: replace_text(sweep / "error.txt", "x"))
    assert len(pauses) == 2 and (sweep / "error.txt").read_text() == "x"


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/etc/nothing"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        PermissionError(errno.EACCES, "Permission denied", "/root/x"),
    ],
)
def test_another_error_of_the_drivers_is_raised_at_once(
    error: OSError, pauses: list[float]
) -> None:
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        patiently(call)
    assert not pauses


def test_a_missing_name_in_a_folder_that_stands_is_the_drivers_fault(
    sweep: Path, pauses: list[float]
) -> None:
    with pytest.raises(FileNotFoundError):  # nobody made the trial's folder
        patiently(lambda: replace_text(sweep / "trials" / "0000" / "error.txt", "x"))
    with pytest.raises(StorageError, match=r"trials.0001"):  # there is nothing to copy
        patiently(lambda: copy_run(sweep / "trials" / "0001", sweep / "trials" / "0000"))
    assert not pauses


def test_a_missing_name_in_a_folder_that_is_away_is_waited_for(
    sweep: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = sweep.with_name("away")
    sweep.rename(away)

    def back(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            away.rename(sweep)

    monkeypatch.setattr(patience.time, "sleep", back)
    patiently(lambda: reachable(sweep))
    patiently(lambda: failure.forget_failure(sweep))
    assert len(pauses) == 3


def test_storage_that_stays_away_ends_the_waiting(pauses: list[float]) -> None:
    def call() -> None:
        raise StorageError("gone")

    with pytest.raises(StorageLost, match="storage has failed for 0 s: gone"):
        patiently(call, seconds=0)
