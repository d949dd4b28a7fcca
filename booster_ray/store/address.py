"""Where a run is, said so that every machine understands it, and what is asked of it there.

A path means one machine's disk. A worker on another machine gets the address and finds the folder
that is the run's on its own; what is asked of the run (that it stops, that it makes way) stands as
an empty file, a flag, in the folder and on remote storage, where the worker looks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from booster_ray.config import Config
from booster_ray.store.failure import recorded
from booster_ray.store.files import (
    ERROR,
    FAILURE,
    FAILURE_FILES,
    NOTES,
    NOTICE_FILE,
    STOP_FILE,
    TRACEBACK,
    trial_directory,
)
from booster_ray.store.folder import mirror_of, storage_path
from booster_ray.store.remote import RemoteFolder, is_remote

POLL_SECONDS = 2.0
"""How late a run on another machine may see what is asked of it."""


@dataclass(frozen=True)
class Address:
    """Of a sweep, of a single run, or of a sweep's trial."""

    storage: str
    """A URL, a volume, or the absolute path of a disk that all machines of a cluster share."""
    name: str
    trial: int | None = None
    repeat: int = 0
    """Which of the trial's runs, where several differ in the seed alone."""

    @classmethod
    def of(cls, config: Config, root: Path, trial: int | None = None) -> Address:
        """The address of what this machine has in ``root``, the folder of a sweep or single run."""
        storage = config.storage if is_remote(config.storage) else str(root.absolute().parent)
        return cls(storage, config.name, trial)

    @property
    def root(self) -> Path:
        """The sweep's or single run's folder on this machine."""
        return storage_path(self.storage) / self.name

    @property
    def directory(self) -> Path:
        """The run's folder on this machine."""
        return self.root / self._below

    @property
    def _below(self) -> str:
        if self.trial is None:
            return ""
        return trial_directory(Path(), self.trial, self.repeat).as_posix()

    def remote(self) -> RemoteFolder | None:
        """The copy of the sweep's or run's folder; None: there is none. Raises StorageError."""
        return RemoteFolder(self.storage).below(self.name) if is_remote(self.storage) else None

    def _flags(self) -> dict[str, Path]:
        """What may be asked of the run: names below the root, and the files here."""
        names = (STOP_FILE, f"{self._below}/{NOTICE_FILE}".lstrip("/"))
        return {name: self.root / name for name in names}

    # -- on the side that asks -------------------------------------------------------------------

    def begin_attempt(self) -> None:
        """Before an attempt: what is left there of the one before is not this one's.

        Raises:
            StorageError: the storage cannot be used.
        """
        if (remote := self.remote()) is None:
            return
        run = remote.below(self._below) if self._below else remote
        stale = {NOTICE_FILE, *FAILURE_FILES}
        for name in run.names():
            if name in stale or Path(name).match(NOTES):
                run.remove(name)

    def ask_to_stop(self) -> None:
        """Have the run, or all of the sweep, save and end. Returns at once."""
        self._raise(STOP_FILE)

    def take_back_stop(self) -> None:
        """Forget an earlier wish. Raises StorageError."""
        (self.root / STOP_FILE).unlink(missing_ok=True)
        if remote := self.remote():
            remote.remove(STOP_FILE)

    def ask_to_make_way(self) -> None:
        """Pass on a notice that this process has got. Returns at once."""
        self._raise(f"{self._below}/{NOTICE_FILE}".lstrip("/"))

    def _raise(self, name: str) -> None:
        file = self.root / name
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if is_remote(self.storage):
            threading.Thread(target=self._push, args=(name, file), daemon=True).start()

    def _push(self, name: str, file: Path) -> None:
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 0.0):
            with suppress(OSError):
                file.touch()  # a run that begins here just now has taken it for old
                if remote := self.remote():
                    remote.put(file, name)
                return
            threading.Event().wait(pause)

    # -- on the side that works ------------------------------------------------------------------

    def open_here(self) -> Path:
        """In a process that works for the run: its folder here, where flags appear from now on.

        Raises:
            StorageError: the storage cannot be read.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if remote := self.remote():
            if remote.read(STOP_FILE) is None:
                (self.root / STOP_FILE).unlink(missing_ok=True)  # of a stop before the last resume
            threading.Thread(target=_watch, args=(remote, self._flags()), daemon=True).start()
        return self.directory


def _watch(remote: RemoteFolder, flags: dict[str, Path]) -> None:
    while not threading.Event().wait(POLL_SECONDS):
        for name, file in flags.items():
            with suppress(OSError):
                if not file.exists() and remote.read(name) is not None:
                    file.touch()


@contextmanager
def recorded_there(config: Config, directory: Path) -> Iterator[None]:
    """What fails outside a run's training is written down like what fails in it, there too."""
    try:
        with recorded(directory):
            yield
    except Exception:
        publish_failure(config, directory)
        raise


def publish_failure(config: Config, directory: Path) -> None:
    """Copy there why an attempt failed, unless another of its processes has said so before."""
    with suppress(OSError):
        mirror = mirror_of(config, directory)
        if mirror is None or mirror.folder.read(FAILURE) is not None:
            return
        for name in (TRACEBACK, ERROR, FAILURE):  # last: whoever finds it finds the others
            if (directory / name).exists():
                mirror.push_file(directory / name)
