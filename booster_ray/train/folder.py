"""The folder of a sweep or run below its storage: begun once, resumed by name, never overwritten.

A sweep keeps ``sweep.yaml`` (the checked config), ``study.db`` (the Optuna study),
``trials/NNNN/`` (the runs), ``ray/`` (Ray's own logs) and at the end ``best/``,
``leaderboard.md``, ``leaderboard.json`` and ``report.html``. A single run keeps what
:mod:`booster_ray.train.run` says.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

from booster_ray.config import ConfigError, Sweep, load
from booster_ray.config.errors import choices, hint
from booster_ray.worlds.make import check_world

SWEEP = "sweep.yaml"
"""What marks a sweep's folder, as ``run.CONFIG`` marks a single run's."""
MIN_FREE_BYTES = 256 * 2**20
"""Less free space than this is refused before anything starts."""

FIXED = ("name", "storage", "trainer.", "tune.", "runtime.")
"""Settings that hold for a whole sweep and cannot be searched."""


def storage_path(storage: str) -> Path:
    """The folder of the runs.

    A relative one lies below the current folder; in a Ray job, whose current folder is a copy
    that goes with the cluster, below the home folder.
    """
    path = Path(storage).expanduser()
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    return Path.home() / path if in_job else path


def begin(sweep: Sweep) -> Path:
    """Create the folder of a new sweep or run; the caller writes what marks it.

    Raises:
        ConfigError: the name is taken, the storage cannot be written or is full, the world
            cannot be made, or the search space holds a setting that must be the same for all
            trials.
    """
    for key in sweep.space:
        if key.startswith(FIXED):
            raise ConfigError(sweep.source, key, "is searched, expected one value for the sweep")
    config = sweep.base()
    check_world(config)
    storage = storage_path(config.storage)
    root = storage / config.name
    _check_storage(storage, sweep.source)
    try:
        root.mkdir()
    except FileExistsError:
        raise ConfigError(
            sweep.source,
            "name",
            f"run '{config.name}' exists in {storage}; "
            f"go on with --resume {config.name}, or choose another with name=…",
        ) from None
    except OSError as error:
        raise ConfigError(
            sweep.source, "storage", f"cannot write {root}: {error.strerror}"
        ) from None
    return root


def _check_storage(storage: Path, source: str) -> None:
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

    Raises:
        ConfigError: there is none of that name; the message lists those there are.
    """
    folder = storage_path(storage)
    root = folder / name
    if not (root / marker).is_file():
        names = sorted(path.parent.name for path in folder.glob(f"*/{marker}"))
        found = f"expected {choices(names)}{hint(name, names)}" if names else "there are no runs"
        raise ConfigError("command line", "--resume", f"no run '{name}' in {folder}, {found}")
    sweep = load(root / marker)
    _check_storage(folder, str(root / marker))
    return sweep, root


def lock(root: Path) -> IO[str]:
    """Hold a folder for this process; freed by closing, or by the process's death.

    Raises:
        ConfigError: another process holds it.
    """
    # Not the file that a run's writer locks: a single run has both in one folder.
    held = (root / ".driver.lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise ConfigError(str(root), "is being run by another process") from None
    return held
