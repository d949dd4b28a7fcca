"""What the config's storage can do, how much it holds, and whether its clock agrees."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from booster_ray.config import Config
from booster_ray.deploy.doctor.findings import Finding, Status
from booster_ray.store.durable import sync_folder
from booster_ray.store.folder import MIN_FREE_BYTES, storage_path
from booster_ray.store.remote import VOLUMES, RemoteFolder, is_remote, local_path

GB = 1e9
ROOMY_BYTES = 5e9
"""Less free space than this is warned of where no config says what is needed."""
SHARED_MEMORY = Path("/dev/shm")
SKEW_WARN, SKEW_FAIL = 5.0, 300.0
"""Seconds of difference between clocks; object stores refuse requests from 15 minutes on."""


def check(config: Config) -> list[Finding]:
    """Whether runs can be kept there; nothing stays behind."""
    name = config.storage
    if is_remote(name):
        return [_remote(name), *_local("working copy", local_path(name), config)]
    return _local("storage", storage_path(name), config)


def _remote(name: str) -> Finding:
    if name.startswith(VOLUMES) and not Path(name).parent.exists():
        text = f"{name}: no volume is mounted here"
        fix = "run it on Databricks with the volume's catalog, or choose another storage"
        return Finding("storage", "fail", text, fix)
    began = time.monotonic()
    try:
        RemoteFolder(name).probe()
    except OSError as error:
        fix = "check the name, the credentials and the network"
        return Finding("storage", "fail", str(error).splitlines()[0], fix)
    seconds = time.monotonic() - began
    text = f"{name}: whole files are written, read and removed ({seconds:.2f} s); it needs no more"
    return Finding("storage", "ok", text, details={"probe_seconds": seconds})


def _local(what: str, folder: Path, config: Config) -> list[Finding]:
    """Of a folder of this machine, mounts included."""
    made = _missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.mkdir()
    except OSError as error:
        text = f"{folder}: cannot write: {os.strerror(error.errno or errno.EIO)}"
        return [Finding("storage", "fail", text, "choose another with storage=…")]
    try:
        return [_capable(what, folder, probe), _clock(folder, probe)]
    finally:
        shutil.rmtree(probe, ignore_errors=True)
        for path in made:
            path.rmdir()


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, innermost first."""
    return [path for path in (folder, *folder.absolute().parents) if not path.exists()]


def _capable(what: str, folder: Path, probe: Path) -> Finding:
    """Try what runs do in their folder: fsync, replace by rename, append, lock.

    Not to sync folders is borne, by runs too.
    """
    tries: dict[str, Callable[[Path], None]] = {
        "write": _write, "rename": _rename, "append": _append, "lock": _lock,
    }  # fmt: skip
    failed, synced = {}, True
    for name, attempt in tries.items():
        try:
            attempt(probe)
        except OSError as error:
            failed[name] = _why(error)
    try:
        synced = sync_folder(probe)
    except OSError as error:
        failed["sync of a folder"] = _why(error)
    details = {"failed": failed, "folders_synced": synced}
    if failed:
        text = f"{folder}: {', '.join(f'{name} fails ({why})' for name, why in failed.items())}"
        fix = "keep runs on a file system that can, or name it as remote storage (s3://, /Volumes/)"
        return Finding("storage", "fail", text, fix, details)
    text = f"{what} {folder}: {', '.join(tries)}"
    if not synced:
        text += "; it cannot sync folders, which runs go without"
        fix = "after a power cut the newest checkpoint may be missing there; keep more than one"
        return Finding("storage", "warn", text, fix, details)
    return Finding("storage", "ok", text, details=details)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _write(probe: Path) -> None:
    with (probe / "written").open("wb") as stream:
        stream.write(b"1")
        stream.flush()
        os.fsync(stream.fileno())
    _expect(probe / "written", b"1")


def _rename(probe: Path) -> None:
    (probe / "new").write_bytes(b"2")
    (probe / "new").replace(probe / "written")
    _expect(probe / "written", b"2")


def _append(probe: Path) -> None:
    with (probe / "written").open("ab") as stream:
        stream.write(b"3")
    _expect(probe / "written", b"23")


def _lock(probe: Path) -> None:
    with (probe / "lock").open("w") as held, (probe / "lock").open("w") as other:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("a lock that is held is given again")


def _expect(path: Path, content: bytes) -> None:
    found = path.read_bytes()
    if found != content:
        raise OSError(f"what was written did not come back: {found!r}")


def _clock(folder: Path, probe: Path) -> Finding:
    """A file's time against this machine's: on a network share they are two clocks."""
    before = time.time()
    (probe / "now").touch()
    stamp, after = (probe / "now").stat().st_mtime, time.time()
    # Kernels stamp files with a clock that ticks every few milliseconds.
    skew = max(0.0, before - stamp - 0.02, stamp - after)
    return skewed(f"{folder}", skew)


def skewed(what: str, seconds: float) -> Finding:
    """A finding about the difference between two clocks."""
    verdict: Status = "fail" if seconds > SKEW_FAIL else "warn" if seconds > SKEW_WARN else "ok"
    text = f"{what} and this machine differ by {seconds:.1f} s"
    fix = "" if verdict == "ok" else "let NTP set the clocks: timedatectl set-ntp true"
    return Finding("clock", verdict, text, fix, {"skew_seconds": seconds})


def disk(config: Config) -> list[Finding]:
    """Free space where runs are kept, and where Ray keeps its objects."""
    folder = storage_path(config.storage).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    verdict: Status = "fail" if free < MIN_FREE_BYTES else "warn" if free < ROOMY_BYTES else "ok"
    fix = "" if verdict == "ok" else "free some, or choose another with storage=…"
    details = {} if is_remote(config.storage) else {"free_bytes": free}
    found = [Finding("disk", verdict, f"{there}: {free / GB:.1f} GB free", fix, details)]
    if SHARED_MEMORY.exists():
        shared = shutil.disk_usage(SHARED_MEMORY).free
        small = shared < MIN_FREE_BYTES
        fix = "run the container with --shm-size=2g" if small else ""
        text = f"{SHARED_MEMORY}: {shared / GB:.1f} GB free for Ray's objects"
        found.append(Finding("disk", "warn" if small else "ok", text, fix))
    return found
