"""A run's folder on remote storage, kept like the local one that the run works in.

A checkpoint is there once its manifest is: segments and arrays go before it, and it is the first
to go when a checkpoint is removed. So a copy that was cut short anywhere is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.checkpoint.store import ARRAYS, MANIFEST, discard, segments, temp_name
from booster_ray.store.durable import names_in, replace_text
from booster_ray.store.lease import Lease
from booster_ray.store.remote import RemoteFolder, StorageError

CHECKPOINT = re.compile(r"(step|best)_(\d+)")
EPOCH = re.compile(r"e(\d{6,})")
"""Folder of what one owner of the run has written, see :mod:`booster_ray.store.lease`."""
EPOCH_FILE = ".epoch.json"
"""In a working folder: ``epoch`` that its checkpoints belong to, and the ``token`` of its lease."""
COPIES = 8
"""Segments that are sent at a time."""


class Mirror:
    """The copy of one run's folder.

    Each owner writes checkpoints to a folder of its own, ``eEPOCH/``, and removes there what it has
    dropped; what owners before it wrote it removes when a checkpoint of its own is whole. So one
    that lost the run, and does not know it yet, cannot take away anything that a later one needs.
    Runs of earlier releases lie in the folder itself, which counts as epoch 0.

    Args:
        folder: where it lies.
        records: small files that are copied with every checkpoint, such as ``progress.jsonl``.
        lease: the writer's, checked before each checkpoint and each removal; None: epoch 0.

    Raises:
        LeaseLost: from every method that writes, when another owns the run.
        StorageError: from every method, when the storage cannot be used.
    """

    def __init__(
        self, folder: RemoteFolder, records: Sequence[str] = (), lease: Lease | None = None
    ) -> None:
        self.folder, self._records, self._lease = folder, records, lease
        self._epoch = lease.epoch if lease else 0
        self._home = _home(self._epoch)
        self._checkpoints: dict[str, tuple[bytes, int]] = {}
        """Known to be there: manifest and time of the arrays' local file; one mended goes again."""
        self._segments: dict[str, int] = {}
        """Known to be there, with the local file's time."""
        self._pulled: dict[str, tuple[str, int]] = {}
        """Segments of other epochs that are here unchanged: their place there, the file's time."""

    # -- there -------------------------------------------------------------------------------

    def push(self, directory: Path) -> None:
        """Make the copy like `directory`: what is new goes there, what was removed goes."""
        self._check()
        for name in self._records:
            self._push_record(directory / name, name)
        checkpoints = _checkpoints(directory)
        for path in checkpoints:
            try:
                self._push_checkpoint(path)
            except FileNotFoundError:
                if (path / MANIFEST).exists():  # else it was pruned meanwhile
                    raise
        if checkpoints:
            self._check()
            self._remove_others(directory)
        if any(name.startswith("step_") for name in self._checkpoints):
            self._check()
            self._remove_epochs_before()

    def _check(self) -> None:
        if self._lease:
            self._lease.check()

    def _push_record(self, file: Path, name: str) -> None:
        if file.exists():
            self.folder.put(file, name)
        else:
            self.folder.remove(name)

    def _push_checkpoint(self, path: Path) -> None:
        try:
            listed = segments(path)
        except CheckpointError:
            return  # damaged here: leave what is there
        files = {s["file"]: s["bytes"] for log in listed.values() for s in log}
        self._push_segments(path.parent / SEGMENTS, files)
        name, now = path.name, _stamp(path)
        if name not in self._checkpoints and self._stands_there(path):
            self._checkpoints[name] = now
        if self._checkpoints.pop(name, None) != now:
            there = f"{self._home}{name}"
            self.folder.remove(f"{there}/{MANIFEST}")
            # The records as of this checkpoint: a copy in place may be cut short, this one counts
            # not before the manifest.
            for record in self._records:
                if (path.parent / record).exists():
                    self.folder.put(path.parent / record, f"{there}/{record}")
            self.folder.put(path / ARRAYS, f"{there}/{ARRAYS}")
            self._see_segments(files)
            self._check()
            self.folder.put(path / MANIFEST, f"{there}/{MANIFEST}")
        self._checkpoints[name] = now

    def _stands_there(self, path: Path) -> bool:
        there = f"{self._home}{path.name}"
        size = self.folder.names(there).get(ARRAYS)
        manifest = self.folder.read(f"{there}/{MANIFEST}")
        same = manifest == (path / MANIFEST).read_bytes()
        return same and size == (path / ARRAYS).stat().st_size

    def _push_segments(self, local: Path, files: Iterable[str]) -> None:
        if not self._segments:
            self._segments = self._same(local)
        now = {name: (local / name).stat().st_mtime_ns for name in files}
        fresh = sorted(name for name in now if self._segments.get(name) != now[name])
        with ThreadPoolExecutor(COPIES, "segments") as pool:
            for name in pool.map(lambda name: self._push_segment(local, name, now[name]), fresh):
                self._segments[name] = now[name]

    def _push_segment(self, local: Path, name: str, changed: int) -> str:
        target = f"{self._home}{SEGMENTS}/{name}"
        place, pulled = self._pulled.get(name, ("", None))
        if pulled != changed or not self.folder.copy(place, target):
            self.folder.put(local / name, target)
        return name

    def _see_segments(self, files: Mapping[str, int]) -> None:
        """That all of a checkpoint's are there, whoever else writes or removes in the storage."""
        sizes = self.folder.names(f"{self._home}{SEGMENTS}") if files else {}
        if lost := [name for name, size in files.items() if (sizes.get(name) or 0) < size]:
            for name in lost:
                self._segments.pop(name, None)  # the next try sends them
            self._check()  # a later owner has removed them
            raise StorageError(f"{self.folder.url}: {SEGMENTS}/{lost[0]} was sent and is not there")

    def _same(self, local: Path) -> dict[str, int]:
        """The segments that both have; their names vouch for their content."""
        sizes = self.folder.names(f"{self._home}{SEGMENTS}")
        stats = {file.name: file.stat() for file in local.glob("*.npy")}
        return {n: s.st_mtime_ns for n, s in stats.items() if sizes.get(n) == s.st_size}

    def _remove_others(self, directory: Path) -> None:
        """What this owner wrote, and the folder here has no more."""
        for name in self.folder.names(self._home.rstrip("/")):
            if CHECKPOINT.fullmatch(name) and not (directory / name).exists():
                self.folder.remove(f"{self._home}{name}/{MANIFEST}")
                self.folder.remove(f"{self._home}{name}")
                self._checkpoints.pop(name, None)
        for name in self.folder.names(f"{self._home}{SEGMENTS}"):
            if not (directory / SEGMENTS / name).exists():
                self.folder.remove(f"{self._home}{SEGMENTS}/{name}")
                self._segments.pop(name, None)

    def _remove_epochs_before(self) -> None:
        for name in self.folder.names() if self._epoch else ():
            epoch = EPOCH.fullmatch(name)
            flat = name == SEGMENTS or CHECKPOINT.fullmatch(name)
            if flat or (epoch and int(epoch[1]) < self._epoch):
                self.folder.remove(name)
        self._pulled.clear()

    # -- and back ----------------------------------------------------------------------------

    def pull(self, directory: Path) -> None:
        """Bring what `directory` lacks, if the copy has come further than it has.

        The newest epoch counts that has a whole checkpoint, however far an earlier one went on.

        Raises:
            CheckpointError: there are checkpoints, none of them is whole, and none is here.
        """
        seen, found = [""], list[str]()
        while found != seen:  # an owner may write, and clear up, while we read
            seen, found = found, []
            if self._pull_newest(self._epochs(), directory, found):
                return
        self._check()
        if found and not any(p.name.startswith("step_") for p in _checkpoints(directory)):
            text = f"{len(found)} checkpoints, none of them whole; the newest is {found[0]}"
            raise CheckpointError(f"{self.folder.url}: {text}")

    def _pull_newest(self, epochs: Sequence[int], directory: Path, found: list[str]) -> bool:
        """Whether `directory` has the newest now; what full checkpoints there are go to `found`."""
        ours = int(_epoch_file(directory).get("epoch", 0))
        here = [path for path in _checkpoints(directory) if path.name.startswith("step_")]
        newest = _number(here[0].name) if here else -1
        for epoch in epochs:
            whole = self._whole(_home(epoch))
            steps = sorted((n for n in whole if n.startswith("step_")), key=_number)
            if not steps:
                continue
            if here and (ours > epoch or (ours == epoch and newest >= _number(steps[-1]))):
                return True
            found += (f"{_home(epoch)}{name}" for name in reversed(steps))
            if came := self._pull_epoch(_home(epoch), steps, whole - {*steps}, directory):
                if ours < epoch:  # what is here was left behind when another took the run over
                    _discard_others(directory, came)
                write_epoch(directory, epoch)
                return True
        return False

    def _epochs(self) -> list[int]:
        """Those that there may be checkpoints of, the newest first."""
        matches = (EPOCH.fullmatch(name) for name in self.folder.names())
        return [*sorted((int(match[1]) for match in matches if match), reverse=True), 0]

    def _whole(self, home: str) -> set[str]:
        """Checkpoints whose manifests are there to their ends."""
        names = {n for n in self.folder.names(home.rstrip("/")) if CHECKPOINT.fullmatch(n)}
        return {n for n in names if _is_json(self.folder.read(f"{home}{n}/{MANIFEST}"))}

    def _pull_epoch(
        self, home: str, steps: Sequence[str], others: Iterable[str], directory: Path
    ) -> set[str]:
        """Returns the names of what came whole; nothing where no full checkpoint did."""
        directory.mkdir(parents=True, exist_ok=True)
        came = {name for name in steps[:-1] if self._pull_checkpoint(home, name, directory)}
        best = {name for name in others if self._pull_checkpoint(home, name, directory)}
        # The newest last: when it is here, all is.
        for record in self._records:
            with suppress(FileNotFoundError):  # never made, or removed by a later owner just now
                self.folder.get(f"{home}{steps[-1]}/{record}", directory / record)
        if self._pull_checkpoint(home, steps[-1], directory):
            came.add(steps[-1])
        return came | best if came else set()

    def _pull_checkpoint(self, home: str, name: str, directory: Path) -> bool:
        """Returns whether all of it is there; what is damaged may have one before it."""
        path, temp = directory / name, temp_name(directory / f"pulled_{name}")
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        try:
            self.folder.get(f"{home}{name}/{MANIFEST}", temp / MANIFEST)
            self.folder.get(f"{home}{name}/{ARRAYS}", temp / ARRAYS)
            self._pull_segments(home, temp, directory / SEGMENTS)
            if path.exists():
                discard(path)
            os.rename(temp, path)
            if home == self._home:
                self._checkpoints[name] = _stamp(path)
        except FileNotFoundError:
            return False
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        return True

    def _pull_segments(self, home: str, checkpoint: Path, target: Path) -> None:
        try:
            listed = [s for log in segments(checkpoint).values() for s in log]
        except CheckpointError:
            return  # whoever loads it will say so
        target.mkdir(exist_ok=True)
        wanted = {s["file"]: s["bytes"] for s in listed}
        lacking = [n for n, size in wanted.items() if _size(target / n) != size]
        with ThreadPoolExecutor(COPIES, "segments") as pool:
            for name in pool.map(lambda name: self._pull_segment(home, name, target), lacking):
                changed = (target / name).stat().st_mtime_ns
                if home == self._home:
                    self._segments[name] = changed
                else:
                    self._pulled[name] = f"{home}{SEGMENTS}/{name}", changed

    def _pull_segment(self, home: str, name: str, target: Path) -> str:
        self.folder.get(f"{home}{SEGMENTS}/{name}", target / name)
        return name

    # -- other files -------------------------------------------------------------------------

    def push_file(self, file: Path, name: str | None = None) -> None:
        """Copy one file there whole, under its own name or `name`."""
        self.folder.put(file, name or file.name)

    def pull_file(self, name: str, file: Path) -> bool:
        """Bring one file; returns whether it is there."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.folder.get(name, file)
        except FileNotFoundError:
            return False
        return True


def write_epoch(directory: Path, epoch: int, token: str = "") -> None:
    """Say in a working folder to which epoch its checkpoints belong. Raises OSError."""
    replace_text(directory / EPOCH_FILE, json.dumps({"epoch": epoch, "token": token}) + "\n")


def token_in(directory: Path) -> str:
    """Of the lease that this working folder was last written under; empty: none."""
    return str(_epoch_file(directory).get("token", ""))


def _epoch_file(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / EPOCH_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _home(epoch: int) -> str:
    return f"e{epoch:06d}/" if epoch else ""


def _discard_others(directory: Path, names: Collection[str]) -> None:
    for path in _checkpoints(directory):
        if path.name not in names:
            discard(path)


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.exists() else None


def _stamp(path: Path) -> tuple[bytes, int]:
    return (path / MANIFEST).read_bytes(), (path / ARRAYS).stat().st_mtime_ns


def _is_json(manifest: bytes | None) -> bool:
    """Whether a manifest is there to its end."""
    try:
        json.loads(manifest or b"")
    except ValueError:
        return False
    return True


def _checkpoints(directory: Path) -> list[Path]:
    """Checkpoints that have a manifest; full ones first, the newest first."""
    names = [name for name in names_in(directory) if CHECKPOINT.fullmatch(name)]
    found = [directory / name for name in names if (directory / name / MANIFEST).exists()]
    return sorted(found, key=lambda p: (p.name.startswith("step"), _number(p.name)), reverse=True)


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
