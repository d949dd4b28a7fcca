"""Locks of this machine's processes; a lock file says who holds it."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.retention import retire
from booster_ray.store.files import RUN_LOCK
from booster_ray.store.remote import StorageError

PATIENCE_SECONDS = 600.0
"""How long a lock is waited for."""
WORD_SECONDS = 5.0
"""After so long it is said whom for."""
POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a lock file, waiting for it; a word says whom for.

    Raises:
        StorageError: another process holds it for longer than that.
        OSError: it cannot be opened, or its file system has no locks.
    """
    with path.open("a+", encoding="utf-8", errors="replace") as stream:
        _wait(stream, path, seconds)
        _sign(stream)
        yield


def try_lock(path: Path) -> IO[str] | None:
    """Hold a lock file until it is closed; None: another process holds it. Raises OSError."""
    stream = path.open("a+", encoding="utf-8", errors="replace")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sign(stream)
    except BlockingIOError:
        stream.close()
        return None
    except BaseException:
        stream.close()
        raise
    return stream


def retired(directory: Path) -> bool:
    """:func:`retire` a run whose process is gone; whether that is so, or cannot be done at all."""
    try:
        lock = try_lock(directory / RUN_LOCK)
        if lock is None:
            return False
        with lock:
            retire(directory)
    except (OSError, CheckpointError) as error:
        _log.debug("%s keeps its replay: %r", directory, error)
    return True


def holder(path: Path) -> str:
    """Who holds a lock, or held it last: `pid 12 on host since 2026-01-01 10:00:00`."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def _wait(stream: IO[str], path: Path, seconds: float) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited >= seconds:
            raise StorageError(f"{path}: still held by {holder(path)} after {seconds:.0f} s")
        if waited >= WORD_SECONDS and not told:
            told = True
            _log.warning("waiting for %s, held by %s", path, holder(path))
        time.sleep(POLL_SECONDS)


def _sign(stream: IO[str]) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(stream.fileno(), 0)
        told = f"pid {os.getpid()} on {socket.gethostname()} since {since}\n"
        os.write(stream.fileno(), told.encode())
