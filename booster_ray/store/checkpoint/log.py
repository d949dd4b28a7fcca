"""A leaf that only grows at one end, saved as segments that checkpoints share.

The rows of a log are numbered from its beginning and never change; a ring buffer is a log that
has forgotten its oldest rows. A checkpoint writes the rows that the one before it does not hold,
to files in ``segments/`` beside the checkpoints, and lists the files that its rows lie in. A
segment is named by the hash of its content, so that nothing can stand under its name but it.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
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

    @classmethod
    def of(cls, rows: Any) -> "Log":
        """A log as it is; of an array, the log that begins with its first row."""
        return rows if isinstance(rows, Log) else _held(0, len(rows), rows)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows that are kept, and what each holds; nothing of them is read."""
        return (len(self), *self.read(self.stop, self.stop).shape[1:])

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows): all that is kept, oldest first, at most SEGMENT_BYTES at a time."""
        like = self.read(self.stop, self.stop)
        row_bytes = max(1, like.dtype.itemsize * int(np.prod(like.shape[1:])))
        step = max(1, SEGMENT_BYTES // row_bytes)
        for at in range(self.start, self.stop, step):
            yield at, self.read(at, min(at + step, self.stop))

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
    fresh = list(Log(first, log.stop, log.read).pieces())
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


def read(directory: Path, manifest: Path, entry: dict[str, Any]) -> Log:
    """The log, each segment checked; its rows stay on disk until they are read.

    Whoever reads from the first row to the last holds one segment at a time in memory, besides
    what they keep of it.

    Raises:
        CheckpointError: a segment is missing or damaged, or they do not make up the log. So does
            reading, where a segment has gone or changed since.
    """
    start, stop = entry["start"], entry["stop"]
    like: np.ndarray | None = None
    at = start
    for segment in entry["segments"]:
        check_name(manifest, segment["file"])
        part = read_array(directory / SEGMENTS / segment["file"], segment)
        first = segment["start"]
        if not first <= at < segment["stop"] or first + len(part) != segment["stop"]:
            raise CheckpointError(f"{manifest}: row {at} is in none of its segments")
        like, at = part[:0].copy(), segment["stop"]
    if at != stop:
        raise CheckpointError(f"{manifest}: row {at} is in none of its segments")
    if like is None:
        like = np.empty((0, *entry["shape"]), entry["dtype"])
    return Log(start, stop, _OnDisk(directory / SEGMENTS, entry["segments"], like).read)


class _OnDisk:
    """Rows of segments, of which the one that was read last stays in memory."""

    def __init__(self, folder: Path, segments: Sequence[Segment], like: np.ndarray) -> None:
        self._folder, self._segments, self._like = folder, segments, like
        self._last: tuple[str, np.ndarray] = "", like

    def read(self, first: int, end: int) -> np.ndarray:
        """A copy of rows ``first`` to ``end``."""
        rows = np.empty((end - first, *self._like.shape[1:]), self._like.dtype)
        for segment in self._segments:
            begin, stop = max(first, segment["start"]), min(end, segment["stop"])
            if begin < stop:
                part = self._rows(segment)[begin - segment["start"] : stop - segment["start"]]
                rows[begin - first : stop - first] = part
        return rows

    def _rows(self, segment: Segment) -> np.ndarray:
        if self._last[0] != segment["file"]:
            self._last = "", self._like  # two segments are never held
            self._last = segment["file"], read_array(self._folder / segment["file"], segment)
        return self._last[1]
