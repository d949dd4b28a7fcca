"""Waiting for storage that is away for a while: a remounted share, a restarted database."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from booster_ray.config.errors import OWN
from booster_ray.store.failure import storing
from booster_ray.store.files import SWEEP
from booster_ray.store.lease import LeaseLost
from booster_ray.store.remote import StorageError

PATIENCE_SECONDS = 600.0
"""Trials go on meanwhile, or wait in their own turn; then the sweep stops and can be resumed."""
LONGEST_PAUSE = 10.0

NAMING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""What a system says of names, not of the disk under them."""
FAILURES = (OSError, StorageInternalError, sqlalchemy.exc.DBAPIError)

T = TypeVar("T")


class StorageLost(RuntimeError):
    """Storage stayed away; nothing was told to the study that is not so."""


def patiently(call: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """What ``call`` returns; it is made again while storage fails, at growing intervals.

    Raises:
        StorageLost: storage failed for ``seconds``.
        LeaseLost: another process drives the sweep.
        OSError: it is not storage's, see :func:`of_storage`; waiting would not mend it.
    """
    deadline, pause = time.monotonic() + seconds, 0.25
    while True:
        try:
            return call()
        except LeaseLost:
            raise  # no outage: another drives the sweep
        except FAILURES as error:
            if isinstance(error, OSError) and not of_storage(error):
                raise
            if time.monotonic() + pause > deadline:
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise StorageLost(f"storage has failed for {seconds:.0f} s: {text}") from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def of_storage(error: OSError) -> bool:
    """Whether a driver's error is its storage's: it comes out of the store room, or of `storing`.

    A name that is missing, or in the way, in a sweep's folder that stands is a fault of the driver.
    """
    if not isinstance(error, StorageError) and not _arose_in_store(error):
        return False
    return error.errno not in NAMING or not error.filename or not _stands(Path(error.filename))


def _arose_in_store(error: OSError) -> bool:
    files = [Path(f.f_code.co_filename) for f, _ in traceback.walk_tb(error.__traceback__)]
    own = [file for file in files if file.is_relative_to(OWN)]
    return bool(own) and own[-1].is_relative_to(OWN / "store")


def _stands(path: Path) -> bool:
    """Whether the sweep's folder that a path is in can be read now."""
    return any((parent / SWEEP).is_file() for parent in path.parents)


@storing()
def reachable(root: Path) -> None:
    """Return if the sweep's folder can be read; an absent folder has no scores, but tells none.

    Raises:
        StorageError: it cannot.
    """
    (root / SWEEP).stat()
