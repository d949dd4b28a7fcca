"""Waiting for storage that is away for a while: a remounted share, a restarted database."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from booster_ray.store.files import SWEEP
from booster_ray.store.lease import LeaseLost

PATIENCE_SECONDS = 600.0
"""Trials go on meanwhile, or wait in their own turn; then the sweep stops and can be resumed."""
LONGEST_PAUSE = 10.0

FAILURES = (OSError, StorageInternalError, sqlalchemy.exc.DBAPIError)

T = TypeVar("T")


class StorageLost(RuntimeError):
    """Storage stayed away; nothing was told to the study that is not so."""


def patiently(call: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """What ``call`` returns; it is made again while storage fails, at growing intervals.

    Raises:
        StorageLost: storage failed for ``seconds``.
        LeaseLost: another process drives the sweep.
    """
    deadline, pause = time.monotonic() + seconds, 0.25
    while True:
        try:
            return call()
        except LeaseLost:
            raise  # no outage: another drives the sweep
        except FAILURES as error:
            if time.monotonic() + pause > deadline:
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise StorageLost(f"storage has failed for {seconds:.0f} s: {text}") from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def reachable(root: Path) -> None:
    """Return if the sweep's folder can be read; an absent folder has no scores, but tells none.

    Raises:
        OSError: it cannot.
    """
    (root / SWEEP).stat()
