"""A sweep on remote storage: what is its own goes there, what trials elsewhere did comes back.

What is settled of its trials is in :mod:`booster_ray.tune.ledger`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from booster_ray.config import Config, Sweep, load
from booster_ray.store.address import Address
from booster_ray.store.attempts import share_attempts
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import last_env_steps
from booster_ray.store.files import (
    CONFIG,
    FAILURE_FILES,
    GATES,
    NOTES,
    POPULATION,
    PROGRESS,
    ROBUSTNESS,
    RUN_ID,
    RUN_LOCK,
    SEED,
    SPENT,
    STALL,
    STOP_FILE,
    STUDY,
    SWEEP,
    SYSTEM,
    TRIALS,
)
from booster_ray.store.folder import mirror_of
from booster_ray.store.lease import Lease
from booster_ray.store.lock import try_lock
from booster_ray.store.remote import RemoteFolder, StorageError, is_remote

AT_ONCE = 16
"""Trials whose records are fetched at a time."""
RESULTS = ("leaderboard.md", "leaderboard.json", "report.html", "best", "package")
"""Files, and folders with all that is in them."""


class SweepMirror:
    """The driver's side.

    Args:
        config: any of the sweep's configs.
        root: the sweep's folder on this machine.
        lease: the driver's, checked before what counts is written; None: it only reads.

    Raises:
        LeaseLost: from what writes, when another process drives the sweep.
        StorageError: here and from every method, when the storage cannot be used.
    """

    def __init__(self, config: Config, root: Path, lease: Lease | None = None) -> None:
        self._config, self.root, self._lease = config, root, lease
        self._mirror = mirror_of(config, root)

    @property
    def remote(self) -> RemoteFolder | None:
        """The sweep's folder on remote storage; None where the local one is the storage."""
        return self._mirror.folder if self._mirror else None

    def fetch(self) -> None:
        """Bring what is known of the sweep beside its trials: another machine may have driven it.

        A study there is an earlier release's, and counts where this machine has none.
        """
        if self._mirror is None:
            return
        self._mirror.pull_file(POPULATION, self.root / POPULATION)
        with TemporaryDirectory(dir=self.root) as folder:
            there = Path(folder) / SPENT
            if self._mirror.pull_file(SPENT, there) and _hours(there) > _hours(self.root / SPENT):
                there.replace(self.root / SPENT)
        for name in (STUDY, RUN_ID):
            if not (self.root / name).exists():
                self._mirror.pull_file(name, self.root / name)

    def check(self) -> None:
        """See that the sweep is still this driver's."""
        if self._lease:
            self._lease.check()

    def share(self) -> None:
        """What is spent, as it is now."""
        if self._mirror and (self.root / SPENT).exists():
            self.check()
            self._mirror.push_file(self.root / SPENT)

    def keep_text(self, name: str, text: str) -> None:
        """Write a small file of the sweep, first where it counts."""
        self.check()
        if self._mirror:
            self._mirror.folder.write(name, text.encode())
        replace_text(self.root / name, text)

    def share_results(self) -> None:
        """What the sweep's end has written."""
        self.check()
        for name in RESULTS if self._mirror else ():
            path = self.root / name
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if self._mirror and file.is_file():
                    self._mirror.push_file(file, file.relative_to(self.root).as_posix())

    def stop(self, wanted: bool) -> None:
        """Have trials on other machines stop, or forget an earlier wish."""
        if self._mirror is None:
            return
        self.check()
        if wanted:
            self._mirror.push_file(self.root / STOP_FILE)
        else:
            self._mirror.folder.remove(STOP_FILE)

    def share_attempts(self, directory: Path) -> None:
        """What ends of a trial's attempts are known here, there, or to both."""
        if self._mirror:
            share_attempts(self._config, directory)

    def collect(self, directory: Path) -> None:
        """See :func:`collect_run`."""
        collect_run(self._config, directory)

    def collect_all(self, trials: Mapping[Path, int | None]) -> None:
        """:meth:`collect` of many, several at a time, but for those that are whole here.

        Args:
            trials: their directories, and of each that has ended, at which env step it did.
        """
        if self._mirror is None:
            return
        lacking = [
            directory
            for directory, env_steps in trials.items()
            if not env_steps or last_env_steps(directory) != env_steps
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.collect, lacking))

    def stop_wanted(self) -> bool:
        """Whether somebody has asked on the storage that the sweep stops."""
        return self._mirror is not None and self._mirror.folder.read(STOP_FILE) is not None

    def fetch_run(self, directory: Path) -> None:
        """The checkpoints of a trial that was made elsewhere."""
        if self._mirror and (mirror := mirror_of(self._config, directory)):
            mirror.pull(directory)


def _hours(spent: Path) -> float:
    """What a file of :mod:`booster_ray.tune.budget` counts, or less where it is not there."""
    with suppress(OSError, ValueError, KeyError):
        return float(json.loads(spent.read_text(encoding="utf-8"))["hours"])
    return -1.0


def collect_run(config: Config, directory: Path) -> None:
    """The records of a run whose attempt has ended, if they say more than what is here.

    Raises:
        StorageError: the storage cannot be used.
    """
    mirror = mirror_of(config, directory)
    if mirror is None:
        return
    if not directory.exists() and not mirror.folder.names():
        return  # of a trial's seeds one that nobody has begun
    directory.mkdir(parents=True, exist_ok=True)
    share_attempts(config, directory)
    with TemporaryDirectory(dir=directory, prefix=".collected-") as folder:
        scratch, there = Path(folder), mirror.folder.names()
        notes = [name for name in there if fnmatch(name, NOTES)]
        # Reports come last: where they are, all is.
        records = (CONFIG, RUN_ID, SYSTEM, *FAILURE_FILES, STALL, ROBUSTNESS, GATES)
        names = (*records, *notes, PROGRESS)
        found = {n for n in names if n in there and mirror.pull_file(n, scratch / n)}
        if last_env_steps(scratch) < last_env_steps(directory):
            return  # it was made on this machine, and cut short before it was copied
        for name in names:
            if name in found:
                (scratch / name).replace(directory / name)
            elif name in FAILURE_FILES:
                (directory / name).unlink(missing_ok=True)


def sweep_here(address: Address) -> Sweep:
    """In a trial: the sweep, fetched if need be.

    Raises:
        StorageError: the storage cannot be read.
    """
    file = address.root / SWEEP
    if remote := address.remote():
        file.parent.mkdir(parents=True, exist_ok=True)
        remote.get(SWEEP, file)
    return load(file)


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
    """Bring what is known there of a single run or a sweep's trials, but for those that run here.

    Raises:
        StorageError: the storage cannot be read.
    """
    if not is_remote(config.storage):
        return
    if not (root / SWEEP).is_file():
        if (root / CONFIG).is_file():
            _collect_idle(config, root)
        return
    there = RemoteFolder(config.storage).below(config.name)
    for name in there.names(TRIALS):
        trial = root / TRIALS / name
        _collect_idle(config, trial)
        if config.tune.seeds > 1:
            for below in there.names(f"{TRIALS}/{name}"):
                if SEED.fullmatch(below):
                    _collect_idle(config, trial / below)


def _collect_idle(config: Config, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    lock = try_lock(directory / RUN_LOCK)
    if lock is None:
        return  # it runs on this machine
    with lock:
        try:
            collect_run(config, directory)
        except FileNotFoundError as error:
            raise StorageError(str(error)) from None
