"""A leaf that only grows at one end, saved as segments that checkpoints share.

The rows of a log are numbered from its beginning and never change; a ring buffer is a log that
has forgotten its oldest rows. A checkpoint writes the rows that the one before it does not hold,
to files in ``segments/`` beside the checkpoints, and lists the files that its rows lie in. A
segment is named by the hash of its content, so that nothing can stand under its name but it.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.leaves import read_array, write_array

SEGMENTS = "segments"
SEGMENT_BYTES = 32 * 2**20
"""Longest segment, but for its header: a ring drops whole segments, so shorter ones waste less."""
SEGMENT_FILE = re.compile(r"[0-9a-f]{32}\.npy")

Segment: TypeAlias = dict[str, Any]
"""A manifest entry: rows ``start`` to ``stop`` lie in ``file``, with what `write_array` tells."""


@dataclass(frozen=True)
class Log:
    """Rows ``start`` to ``stop`` of a log; as an array, those rows."""

    start: int
    """The oldest row that is kept."""
    stop: int
    """Rows ever appended."""
    read: Callable[[int, int], np.ndarray]
    """``read(first, end)``: a copy of those rows; raises LookupError when they are gone."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = self.read(self.start, self.stop)
        return rows if dtype is None else rows.astype(dtype)

    def __reduce__(self) -> Any:
        # To another process go the rows, and not all that they can be read from.
        return _held, (self.start, self.stop, np.asarray(self))


def _held(start: int, stop: int, rows: np.ndarray) -> Log:
    return Log(start, stop, lambda first, end: rows[first - start : end - start].copy())


class Staged(NamedTuple):
    """What a checkpoint needs of a log: what is on disk, and a copy of what is not."""

    start: int
    stop: int
    like: np.ndarray
    """No rows, of the log's dtype and shape."""
    kept: list[Segment]
    fresh: list[tuple[int, np.ndarray]]
    """(first row, rows)."""


def stage(log: Log, written: Sequence[Segment] = ()) -> Staged:
    """Copies the rows of `log` that are not in the segments `written`.

    Raises:
        ValueError: `written` is of another log: it is ahead of this one.
    """
    if written and written[-1]["stop"] > log.stop:
        raise ValueError(f"log ends at row {log.stop}, but {written[-1]['stop']} were saved of it")
    kept = [segment for segment in written if segment["stop"] > log.start]
    first = kept[-1]["stop"] if kept else log.start
    like = log.read(log.stop, log.stop)
    row_bytes = max(1, like.dtype.itemsize * int(np.prod(like.shape[1:])))
    step = max(1, SEGMENT_BYTES // row_bytes)
    fresh = [(at, log.read(at, min(at + step, log.stop))) for at in range(first, log.stop, step)]
    return Staged(log.start, log.stop, like, kept, fresh)


def write(directory: Path, staged: Staged) -> tuple[dict[str, Any], int]:
    """Writes the fresh rows to ``directory/segments``; returns the manifest entry and bytes.

    Raises:
        FileNotFoundError: a segment that was written before is gone, or shorter.
        OSError: the disk is full, read-only, …
    """
    folder = directory / SEGMENTS
    for segment in staged.kept:
        if (folder / segment["file"]).stat().st_size < segment["bytes"]:
            raise FileNotFoundError(f"{folder / segment['file']} was cut short")
    if staged.fresh:
        folder.mkdir(exist_ok=True)
    fresh = [_write_segment(folder, first, rows) for first, rows in staged.fresh]
    entry = {
        "start": staged.start,
        "stop": staged.stop,
        "dtype": staged.like.dtype.name,
        "shape": list(staged.like.shape[1:]),
        "segments": [*staged.kept, *fresh],
    }
    return entry, sum(segment["bytes"] for segment in fresh)


def _write_segment(folder: Path, first: int, rows: np.ndarray) -> Segment:
    temp = folder / f".segment.tmp-{os.getpid()}"
    try:
        with temp.open("w+b") as stream:
            entry = write_array(stream, rows)
            stream.flush()
            os.fsync(stream.fileno())
        name = f"{entry['sha256'][:32]}.npy"
        # What stands there has this content, or is damaged: either way this replaces it.
        temp.replace(folder / name)
    finally:
        temp.unlink(missing_ok=True)
    return {"start": first, "stop": first + len(rows), "file": name, **entry}


def check_name(manifest: Path, file: str) -> None:
    """Refuse a segment's file name that would lead out of the folder.

    Raises:
        CheckpointError: the manifest is forged or damaged.
    """
    if not SEGMENT_FILE.fullmatch(file):
        raise CheckpointError(f"{manifest}: not a segment's file name: {file!r}")


def read(directory: Path, manifest: Path, entry: dict[str, Any]) -> np.ndarray:
    """The rows of a log, each segment checked.

    Raises:
        CheckpointError: a segment is missing or damaged, or they do not make up the log.
    """
    start, stop = entry["start"], entry["stop"]
    rows: np.ndarray | None = None
    at = start
    for segment in entry["segments"]:
        check_name(manifest, segment["file"])
        part = read_array(directory / SEGMENTS / segment["file"], segment)[at - segment["start"] :]
        if not segment["start"] <= at < segment["stop"] or at + len(part) != segment["stop"]:
            raise CheckpointError(f"{manifest}: row {at} is in none of its segments")
        if rows is None:
            rows = np.empty((stop - start, *part.shape[1:]), part.dtype)
        rows[at - start : segment["stop"] - start] = part
        at = segment["stop"]
    if at != stop:
        raise CheckpointError(f"{manifest}: row {at} is in none of its segments")
    if rows is None:
        rows = np.empty((0, *entry["shape"]), entry["dtype"])
    return rows
