"""Records of trials that run on other machines, brought here from remote storage."""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from pathlib import Path

from booster_ray.config import Config
from booster_ray.store.files import SWEEP
from booster_ray.store.remote import RemoteFolder, StorageError, is_remote

EVERY_SECONDS = 30.0

_log = logging.getLogger(__name__)


def keep_collecting(config: Config, root: Path) -> None:
    """Do so now and then, on a thread; with local storage there is nothing to do."""
    if is_remote(config.storage):
        threading.Thread(target=_collect_on, args=(config, root), daemon=True).start()


def _collect_on(config: Config, root: Path) -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        try:
            collect(config, root)
        except Exception:  # storage that is away comes back
            _log.warning("cannot collect", exc_info=True)


def collect(config: Config, root: Path) -> None:
    """Bring what is known there of a sweep's trials, but for those that run here.

    Raises:
        StorageError: the storage cannot be read.
    """
    if not is_remote(config.storage) or not (root / SWEEP).is_file():
        return
    from booster_ray.store.sharing import SweepMirror

    sharing = SweepMirror(config, root)
    for name in RemoteFolder(config.storage).below(config.name).names("trials"):
        directory = root / "trials" / name
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # it runs on this machine
            try:
                sharing.collect(directory)
            except FileNotFoundError as error:
                raise StorageError(str(error)) from None
