"""A run's folder on remote storage, kept like the local one that the run works in.

A checkpoint is there once its manifest is: segments and arrays go before it, and it is the first
to go when a checkpoint is removed. So a copy that was cut short anywhere is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.checkpoint.store import ARRAYS, MANIFEST, discard, segments, temp_name
from booster_ray.store.durable import names_in
from booster_ray.store.remote import RemoteFolder

CHECKPOINT = re.compile(r"(step|best)_(\d+)")


class Mirror:
    """The copy of one run's folder.

    Args:
        folder: where it lies.
        records: small files that are copied with every checkpoint, such as ``progress.jsonl``.

    Raises:
        StorageError: from every method, when the storage cannot be used.
    """

    def __init__(self, folder: RemoteFolder, records: Sequence[str] = ()) -> None:
        self.folder, self._records = folder, records
        self._checkpoints: dict[str, tuple[bytes, int]] = {}
        """Known to be there: manifest and time of the arrays' local file; one mended goes again."""
        self._segments: dict[str, int] = {}
        """Known to be there, with the local file's time."""

    # -- there -------------------------------------------------------------------------------

    def push(self, directory: Path) -> None:
        """Make the copy like `directory`: what is new goes there, what was removed goes."""
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
            self._remove_others(directory)

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
        for file in {s["file"] for log in listed.values() for s in log}:
            self._push_segment(path.parent / SEGMENTS / file)
        name, now = path.name, _stamp(path)
        if name not in self._checkpoints and self._stands_there(path):
            self._checkpoints[name] = now
        if self._checkpoints.pop(name, None) != now:
            self.folder.remove(f"{name}/{MANIFEST}")
            # The records as of this checkpoint: a copy in place may be cut short, this one counts
            # not before the manifest.
            for record in self._records:
                if (path.parent / record).exists():
                    self.folder.put(path.parent / record, f"{name}/{record}")
            self.folder.put(path / ARRAYS, f"{name}/{ARRAYS}")
            self.folder.put(path / MANIFEST, f"{name}/{MANIFEST}")
        self._checkpoints[name] = now

    def _stands_there(self, path: Path) -> bool:
        size = self.folder.names(path.name).get(ARRAYS)
        manifest = self.folder.read(f"{path.name}/{MANIFEST}")
        same = manifest == (path / MANIFEST).read_bytes()
        return same and size == (path / ARRAYS).stat().st_size

    def _push_segment(self, file: Path) -> None:
        if not self._segments:
            self._segments = self._same(file.parent)
        changed = file.stat().st_mtime_ns
        if self._segments.get(file.name) != changed:
            self.folder.put(file, f"{SEGMENTS}/{file.name}")
            self._segments[file.name] = changed

    def _same(self, local: Path) -> dict[str, int]:
        """The segments that both have; their names vouch for their content."""
        sizes = self.folder.names(SEGMENTS)
        stats = {file.name: file.stat() for file in local.glob("*.npy")}
        return {n: s.st_mtime_ns for n, s in stats.items() if sizes.get(n) == s.st_size}

    def _remove_others(self, directory: Path) -> None:
        for name in self.folder.names():
            if CHECKPOINT.fullmatch(name) and not (directory / name).exists():
                self.folder.remove(f"{name}/{MANIFEST}")
                self.folder.remove(name)
                self._checkpoints.pop(name, None)
        for name in self.folder.names(SEGMENTS):
            if not (directory / SEGMENTS / name).exists():
                self.folder.remove(f"{SEGMENTS}/{name}")
                self._segments.pop(name, None)

    # -- and back ----------------------------------------------------------------------------

    def pull(self, directory: Path) -> None:
        """Bring what `directory` lacks, if the copy has come further than it has.

        Raises:
            CheckpointError: there are checkpoints, none of them is whole, and none is here.
        """
        whole = [n for n in self.folder.names() if CHECKPOINT.fullmatch(n)]
        whole = [n for n in whole if _is_json(self.folder.read(f"{n}/{MANIFEST}"))]
        steps = sorted(n for n in whole if n.startswith("step_"))
        here = [path.name for path in _checkpoints(directory) if path.name.startswith("step_")]
        if not steps or (here and _number(here[0]) >= _number(max(steps, key=_number))):
            return
        directory.mkdir(parents=True, exist_ok=True)
        steps.sort(key=_number)
        came = [self._pull_checkpoint(name, directory) for name in steps[:-1]]
        for name in (n for n in whole if n not in steps):
            self._pull_checkpoint(name, directory)
        # The newest last: when it is here, all is.
        for record in self._records:
            if self.folder.read(f"{steps[-1]}/{record}") is not None:
                self.folder.get(f"{steps[-1]}/{record}", directory / record)
        came.append(self._pull_checkpoint(steps[-1], directory))
        if not (here or any(came)):
            text = f"{len(steps)} checkpoints, none of them whole; the newest is {steps[-1]}"
            raise CheckpointError(f"{self.folder.url}: {text}")

    def _pull_checkpoint(self, name: str, directory: Path) -> bool:
        """Returns whether all of it is there; what is damaged may have one before it."""
        path, temp = directory / name, temp_name(directory / f"pulled_{name}")
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        try:
            self.folder.get(f"{name}/{MANIFEST}", temp / MANIFEST)
            self.folder.get(f"{name}/{ARRAYS}", temp / ARRAYS)
            self._pull_segments(temp, directory / SEGMENTS)
            if path.exists():
                discard(path)
            os.rename(temp, path)
            self._checkpoints[name] = _stamp(path)
        except FileNotFoundError:
            return False
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        return True

    def _pull_segments(self, checkpoint: Path, target: Path) -> None:
        try:
            listed = [s for log in segments(checkpoint).values() for s in log]
        except CheckpointError:
            return  # whoever loads it will say so
        target.mkdir(exist_ok=True)
        for segment in listed:
            file = target / segment["file"]
            if not file.exists() or file.stat().st_size != segment["bytes"]:
                self.folder.get(f"{SEGMENTS}/{file.name}", file)
                self._segments[file.name] = file.stat().st_mtime_ns

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
