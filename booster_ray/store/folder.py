"""The folder of a sweep or run below its storage: begun once, resumed by name, never overwritten.

A sweep keeps ``sweep.yaml`` (the checked config), ``trials/NNNN/`` (the runs: with what each is
run, its work, how it ended), ``study.db`` (the Optuna study, made from them), ``spent.json`` (its
time so far) and at the end ``best/``, ``package/``, ``leaderboard.md``, ``leaderboard.json`` and
``report.html``. A single run keeps what :mod:`booster_ray.train.run` says.

On remote storage (``s3://``, ``gs://``, ``/Volumes/…``) the folder is a copy: the work is done in a
folder of this machine, each run copies its own part, and what a fresh machine lacks it fetches.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from booster_ray.config import Config, ConfigError, Sweep, load
from booster_ray.config.errors import choices, hint
from booster_ray.config.paths import storage_name
from booster_ray.store.durable import names_in
from booster_ray.store.files import SWEEP, sweep_root
from booster_ray.store.lease import Lease, LeaseHeld, take
from booster_ray.store.local import LocalFolder
from booster_ray.store.mirror import Mirror
from booster_ray.store.remote import RemoteFolder, is_remote, local_path

DRIVER_LOCK = ".driver.lock"
DRIVER, WRITER = "driver", "writer"
"""Roles of leases: who decides over a sweep or run, and who writes a run's checkpoints."""
MIN_FREE_BYTES = 256 * 2**20
"""Less free space than this is refused before anything starts."""


def storage_path(storage: str) -> Path:
    """The folder of the runs on this machine.

    A relative one lies below the current folder; in a Ray job, whose current folder is a copy
    that goes with the cluster, below the home folder. Of remote storage it is the folder that
    runs work in, see :func:`booster_ray.store.remote.local_path`.
    """
    path = local_path(storage)
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    return Path.home() / path if in_job else path


def work_in(folder: str) -> None:
    """In a worker: go where the command was typed, if this machine has that folder.

    Environments open files there, and Ray's workers begin elsewhere. In a Ray job it is the job's
    copy of its working folder, which workers begin in anyway.
    """
    with suppress(OSError):
        os.chdir(folder)


def mirror_of(
    config: Config, directory: Path, records: Sequence[str] = (), lease: Lease | None = None
) -> Mirror | None:
    """Where ``directory``, a run's or sweep's or one in it, is copied to; None: nowhere.

    Raises:
        StorageError: the storage cannot be reached.
    """
    if not is_remote(config.storage):
        return None
    return Mirror(RemoteFolder(config.storage).below(address(config, directory)), records, lease)


def place_of(config: Config, directory: Path) -> LocalFolder | RemoteFolder:
    """Where a run's or sweep's folder is kept for good: its storage, on this machine or not.

    Raises:
        StorageError: the storage cannot be reached.
    """
    if not is_remote(config.storage):
        return LocalFolder(directory)
    return RemoteFolder(config.storage).below(address(config, directory))


def address(config: Config, directory: Path) -> str:
    """A folder's place below the storage: the name, and what is below it, parts joined by '/'.

    Below the storage all machines agree, whatever their local folders are called.
    """
    path, root = directory.absolute(), storage_path(config.storage).absolute()
    if path.is_relative_to(root / config.name):
        return path.relative_to(root).as_posix()
    # The working folder of a machine whose scratch folder has another name.
    sweep = sweep_root(path)
    if sweep and sweep.name == config.name:
        return path.relative_to(sweep.parent).as_posix()
    parts = path.parts
    first = max((i for i, part in enumerate(parts) if part == config.name), default=len(parts) - 1)
    return "/".join(parts[first:])


def publish(config: Config, file: Path) -> None:
    """Copy one file of a run's or sweep's folder to remote storage; local storage has it.

    Raises:
        StorageError: it cannot be written.
    """
    if mirror := mirror_of(config, file.parent):
        mirror.push_file(file)


def begin(sweep: Sweep) -> Path:
    """Create the folder of a new sweep or run; the caller writes what marks it.

    Raises:
        ConfigError: the name is taken, or the storage cannot be written or is full.
    """
    config = sweep.base()
    storage = storage_path(config.storage)
    root = storage / config.name
    _check_storage(config.storage, sweep.source)
    check_free(sweep, root)
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            sweep.source, "storage", f"cannot write {root}: {error.strerror}"
        ) from None
    return root


def check_free(sweep: Sweep, root: Path) -> None:
    """See that nothing of a run or sweep is under its name, here or in its storage.

    Raises:
        ConfigError: the name is taken.
    """
    config = sweep.base()
    there = is_remote(config.storage) and _holds(RemoteFolder(config.storage).names(config.name))
    try:
        taken = there or (os.path.lexists(root) and _holds(names_in(root)))
    except OSError as error:
        taken = error.errno == errno.ENOTDIR
        if not taken:
            text = f"cannot read {root}: {error.strerror}"
            raise ConfigError(sweep.source, "storage", text) from None
    if taken:
        raise ConfigError(
            sweep.source,
            "name",
            f"run '{config.name}' exists in {config.storage if there else root.parent}; "
            f"go on with --resume {config.name}, or choose another with name=…",
        )


def _holds(names: Collection[str]) -> bool:
    """Whether a folder holds a run or sweep, or part of one.

    One that was killed before it wrote what marks it leaves at most its lock and its lease.
    """
    return any(not name.startswith(".") for name in names)


def _check_storage(name: str, source: str) -> None:
    if is_remote(name):
        try:
            RemoteFolder(name).probe()
        except OSError as error:
            text = str(error).splitlines()[0]  # names the storage
            raise ConfigError(source, "storage", f"cannot write: {text}") from None
    storage = storage_path(name)
    try:
        storage.mkdir(parents=True, exist_ok=True)
        probe = storage / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        text = os.strerror(error.errno or errno.EIO)
        raise ConfigError(source, "storage", f"cannot write {storage}: {text}") from None
    free = shutil.disk_usage(storage).free
    if free < MIN_FREE_BYTES:
        need = MIN_FREE_BYTES // 2**20
        raise ConfigError(
            source, "storage", f"{storage} has {free // 2**20} MiB free, expected at least {need}"
        )


def reopen(name: str, storage: str, marker: str) -> tuple[Sweep, Path]:
    """The config and folder of an earlier sweep or run, which holds the file ``marker``.

    The config's storage is the one that is given: folders of runs may be moved.

    Raises:
        ConfigError: there is none of that name; the message lists those there are.
    """
    try:
        storage = storage_name(storage)
    except ValueError as error:
        raise ConfigError("command line", "--storage", str(error)) from None
    folder = storage_path(storage)
    root = folder / name
    # A sweep's may have been changed by a driver on another machine.
    known = marker != SWEEP and (root / marker).is_file()
    if not known and not _fetched(storage, root, marker) and not (root / marker).is_file():
        here = {path.parent.name for path in folder.glob(f"*/{marker}")}
        names = sorted(here | (_remote_names(storage) if is_remote(storage) else set()))
        found = f"expected {choices(names)}{hint(name, names)}" if names else "there are no runs"
        where = storage if is_remote(storage) else folder
        raise ConfigError("command line", "--resume", f"no run '{name}' in {where}, {found}")
    sweep = in_storage(load(root / marker), storage)
    _check_storage(storage, str(root / marker))
    return sweep, root


def in_storage(sweep: Sweep, storage: str) -> Sweep:
    """The same sweep or run, kept in ``storage``."""
    return Sweep.from_raw({**sweep.raw, "storage": storage}, sweep.source)


def _fetched(storage: str, root: Path, marker: str) -> bool:
    """Bring the file that marks a run from remote storage; returns whether it is there."""
    if not is_remote(storage):
        return False
    with _reading(storage):
        return Mirror(RemoteFolder(storage).below(root.name)).pull_file(marker, root / marker)


def _remote_names(storage: str) -> set[str]:
    with _reading(storage):
        return {name for name, size in RemoteFolder(storage).names().items() if size is None}


@contextmanager
def _reading(storage: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = str(error).splitlines()[0]
        raise ConfigError("command line", "--storage", f"cannot read: {text}") from None


def lock(root: Path) -> IO[str]:
    """Hold a folder of this machine for this process; freed by closing, or by its death.

    Raises:
        ConfigError: another process of this machine holds it.
    """
    # Not the file that a run's writer locks: a single run has both in one folder.
    held = (root / DRIVER_LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise ConfigError(str(root), "is being run by another process") from None
    return held


@contextmanager
def driven(
    config: Config, root: Path, *, over: bool = False, say: Callable[[str], object] = print
) -> Iterator[Lease]:
    """Drive a sweep or run from this process, and from no other on whatever machine.

    Args:
        config: its config.
        root: its folder on this machine.
        over: take it from a driver that lives, see ``--take-over``.
        say: told in one line what is waited for.

    Raises:
        ConfigError: another process drives it; the line says which, since when, and how it is
            taken over.
        StorageError: the storage cannot be used.
    """
    with lock(root) as held:
        held.seek(0)
        last, host = held.read().strip(), socket.gethostname()
        try:
            lease = take(
                place_of(config, root),
                DRIVER,
                over=over,
                # The last driver from this folder held the lock that this process has now.
                dead=lambda owner: owner.token == last and owner.host == host,
                say=say,
            )
        except LeaseHeld as error:
            text = f"{error}; stop it there, or take over with --resume {config.name} --take-over"
            raise ConfigError(config.name, text) from None
        held.truncate(0)
        held.write(lease.owner.token + "\n")
        held.flush()
        lease.keep()
        try:
            yield lease
        finally:
            lease.release()
