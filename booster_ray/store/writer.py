"""Checkpoints of one run, written behind its back.

Training stands still only while its state is copied to memory of its own; a thread does the rest.
Local writes wait for each other, copies to remote storage do not hold up anything: they take what
is newest when their turn comes (CheckFreq, FAST '21, and Orbax divide the work likewise).
"""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.history import drop_unused_segments, load_newest, prune
from booster_ray.store.checkpoint.leaves import Tree
from booster_ray.store.checkpoint.log import Segment
from booster_ray.store.checkpoint.store import Staged, discard, segments, stage, write
from booster_ray.store.durable import sync_file
from booster_ray.store.lease import Lease, LeaseLost
from booster_ray.store.mirror import Mirror
from booster_ray.store.remote import StorageError

FINAL_SECONDS = 30.0
"""How long the last checkpoint is tried again before its error is raised."""
FIRST_PAUSE_SECONDS = 0.5
MISSED = 5
"""So many full checkpoints in a row may fail for a reason that can pass, and training goes on."""
LASTING = (
    errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES,
    errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EFBIG,
)  # fmt: skip
"""Errors that do not pass by waiting: one checkpoint that fails so, tried twice, is enough."""


class _Job(NamedTuple):
    path: Path
    staged: Staged
    keep: int


class Writer:
    """Saves to one directory, which no other writer uses meanwhile.

    ``step_N`` are full checkpoints, ``best_N`` what is to be kept for its score. A write that
    fails is warned of, and tried again with the next save or :meth:`retry`; a newer checkpoint
    of its kind takes its place. Where none succeeds, :meth:`save` gives up in the end.

    Args:
        directory: the run's folder.
        keep: newest ``step_N`` kept.
        mirror: where the folder is copied to; None: nowhere.
        records: files that must be on disk before a checkpoint appears, in the directory.
        lease: of the directory, checked before each checkpoint and each removal; None: nobody
            else can be writing.

    Raises:
        LeaseLost: from :meth:`save`, :meth:`retry` and :meth:`finish`, when another owns it.
    """

    def __init__(
        self,
        directory: Path,
        keep: int,
        mirror: Mirror | None = None,
        records: Sequence[str] = (),
        lease: Lease | None = None,
    ) -> None:
        self._directory, self._keep, self._mirror = directory, keep, mirror
        self._lease = lease
        self._records = [directory / name for name in records]
        self._lock = threading.Lock()
        self._todo: dict[str, _Job] = {}
        """By kind; what is not on disk yet."""
        self._writing = ThreadPoolExecutor(1, "checkpoint")
        self._copying = ThreadPoolExecutor(1, "mirror")
        self._work: Future[None] | None = None
        self._full: Future[None] | None = None
        """The newest work that a full checkpoint was given to."""
        self._copy: Future[None] | None = None
        self._copy_waits = self._uncopied = False
        self._written: dict[str, list[Segment]] = {}
        self._failures: list[str] = []
        """Not told yet."""
        self._missed = 0
        """Full checkpoints in a row that were not written when the next was due."""
        self.stalled_seconds = 0.0
        """Time that :meth:`save` has taken in all: what checkpoints cost the loop."""
        self.bytes_written = 0

    def restore(self) -> tuple[Tree, dict[str, Any], Path] | None:
        """Loads the newest whole checkpoint, see `load_newest`; saves go on from its logs.

        Its logs stay on disk until they are read: a replay is not held twice.
        """
        found = load_newest(self._directory, logs_on_disk=True)
        if found is not None:
            self._written = segments(found[2])
        return found

    # -- in the loop -------------------------------------------------------------------------

    def save(self, name: str, capture: Callable[[], Tree], metadata: dict[str, Any]) -> None:
        """Saves what `capture` returns as ``name``, ``step_N`` or ``best_N``; returns when copied.

        Only a ``step_N`` may hold logs. It waits until the one before it is written.

        Raises:
            StorageError: full checkpoints fail again and again (``LASTING``, ``MISSED``).
            ValueError, TypeError, LookupError: as `stage` does.
        """
        self._check_known()
        began = time.monotonic()
        kind = name.partition("_")[0]
        full = kind == "step"
        if full:
            self._settle_full()
        self._tell()
        staged = stage(capture(), metadata, self._written if full else None)
        with self._lock:
            self._todo[kind] = _Job(self._directory / name, staged, self._keep if full else 1)
        self._submit()
        self._full = self._work if full else self._full
        self.stalled_seconds += time.monotonic() - began

    def _settle_full(self) -> None:
        """Wait for the full checkpoint before; give up if it and too many before it failed."""
        _error(self._full)
        if (error := self._full_fails()) is None:
            self._missed = 0
            return
        self._missed += 1
        if self._missed < (1 if error.errno in LASTING else MISSED):
            return
        self._submit()
        if (error := self._full_fails()) is None:
            self._missed = 0
            return
        self._tell()
        path, more = self._todo["step"].path, f" and {self._missed - 1} before it"
        text = f"{path}{more if self._missed > 1 else ''}: not written: {error.strerror or error}"
        raise StorageError(f"{text}; training without checkpoints makes no sense")

    def _full_fails(self) -> OSError | None:
        """Waits for what is under way; why a full checkpoint is still to be written, if one is."""
        with self._lock:
            waiting = "step" in self._todo
        error = _error(self._work) if waiting else None
        with self._lock:
            return error if "step" in self._todo else None

    @property
    def behind(self) -> bool:
        """Whether something failed to be written, and nothing is being done about it."""
        idle = self._work is None or self._work.done()
        return idle and (bool(self._todo) or self._uncopied)

    def retry(self) -> None:
        """Tries again what failed, if anything did."""
        self._check_known()
        self._tell()
        if self.behind:
            self._submit()

    def finish(self) -> None:
        """Waits until all is written and copied; tries again for ``FINAL_SECONDS``.

        Raises:
            OSError: it cannot be.
        """
        deadline, pause = time.monotonic() + FINAL_SECONDS, FIRST_PAUSE_SECONDS
        while error := self._settled():
            if isinstance(error, LeaseLost) or time.monotonic() + pause > deadline:
                raise error
            time.sleep(pause)
            pause *= 2
            self._submit()

    def close(self) -> None:
        """Waits for what is under way; what failed stays unwritten."""
        if self._mirror is not None:
            self._copy_soon()  # the records say more than they did with the last checkpoint
        self._settled()
        self._writing.shutdown()
        self._copying.shutdown()

    def _settled(self) -> OSError | None:
        """Waits for both threads; returns why one failed."""
        error = _error(self._work) or _error(self._copy)  # the first may begin the second
        self._tell()
        return error

    def _tell(self) -> None:
        """Warns of what failed, in the caller's thread: filters of warnings belong to that."""
        while self._failures:
            warnings.warn(self._failures.pop(0), stacklevel=3)

    def _submit(self) -> None:
        self._work = self._writing.submit(self._write_all)

    def _check_known(self) -> None:
        if self._lease:
            self._lease.check_known()

    def _check(self) -> None:
        # With remote storage the directory is this process's alone, and the mirror checks.
        if self._lease and self._mirror is None:
            self._lease.check()

    # -- in the threads ----------------------------------------------------------------------

    def _write_all(self) -> None:
        failed: OSError | None = None
        for kind in ("best", "step"):
            with self._lock:
                job = self._todo.get(kind)
            if job is None:
                continue
            try:
                self._write(job)
            except OSError as error:
                self._fail(f"{job.path}: not written", error)
                failed = error
                continue
            with self._lock:
                if self._todo.get(kind) is job:
                    del self._todo[kind]
        if self._mirror is not None:
            self._copy_soon()
        if failed is not None:
            raise failed

    def _write(self, job: _Job) -> None:
        self._check()
        for record in self._records:
            sync_file(record)
        if os.path.lexists(job.path):
            discard(job.path)  # damaged, or of a run that was taken back
        try:
            self.bytes_written += write(job.path, job.staged)
        except FileNotFoundError:
            self._written = {}  # a segment is lost: write all of them anew
            raise
        except OSError:
            with suppress(OSError):
                drop_unused_segments(self._directory)  # a full disk needs the room
            raise
        kind = job.path.name.partition("_")[0]
        try:
            if kind == "step":
                self._written = segments(job.path)
            self._check()
            prune(self._directory, job.keep, pattern=f"{kind}_*")
        except LeaseLost:
            raise
        except (OSError, CheckpointError) as error:  # but it is written
            self._fail(f"{self._directory}: cannot remove old checkpoints", error)

    def _fail(self, what: str, error: Exception) -> None:
        why = getattr(error, "strerror", None) or error
        self._failures.append(f"{what}: {why}; trying again later")

    def _copy_soon(self) -> None:
        """Copies in its own time; what is asked for while one waits, that one does."""
        with self._lock:
            if self._copy_waits:
                return
            self._copy_waits = True
            self._copy = self._copying.submit(self._copy_all)

    def _copy_all(self) -> None:
        with self._lock:
            self._copy_waits = False
        assert self._mirror is not None
        try:
            self._mirror.push(self._directory)
            self._uncopied = False
        except LeaseLost:
            raise  # the next save says so
        except OSError as error:
            self._uncopied = True
            self._fail(f"{self._mirror.folder.url}: not copied", error)
            raise


def _error(future: Future[None] | None) -> OSError | None:
    """Waits; returns the system's error and raises any other."""
    error = None if future is None else future.exception()
    if error is not None and not isinstance(error, OSError):
        raise error
    return error
