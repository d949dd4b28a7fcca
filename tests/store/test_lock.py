"""Who waits for a lock says whom for, and gives up in the end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import booster_ray
from booster_ray.store import lock
from booster_ray.store.lock import holder, locked, try_lock
from booster_ray.store.remote import StorageError

HOLDING = """
import sys
from pathlib import Path
from booster_ray.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(booster_ray.__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_that_stays_held_is_given_up_and_its_holder_named(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(StorageError, match=rf"lock: still held by pid {other.pid} on .* after 0 s"),
        locked(tmp_path / "lock", seconds=0.2),
    ):
        raise AssertionError
    assert try_lock(tmp_path / "lock") is None
    assert holder(tmp_path / "lock").startswith(f"pid {other.pid} on ")


def test_who_waits_says_whom_for_and_has_it_when_it_is_free(
    tmp_path: Path,
    other: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lock, "WORD_SECONDS", 0.1)
    timer = threading.Timer(0.5, other.kill)
    timer.start()
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock"):
        assert holder(tmp_path / "lock").startswith(f"pid {os.getpid()} on ")
    (said,) = caplog.messages
    assert f"held by pid {other.pid} on " in said
    held = try_lock(tmp_path / "lock")
    assert held is not None
    held.close()
