"""Files of JSON objects, one a line, that grow: read from where the last reading ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

BYTES = 4 * 2**20
"""Read of a file at a time."""
MARK_BYTES = 256
"""Kept of what was read last, to know it again."""
END_BYTES = 2**16
"""Read at first to find a file's last line."""


class Tail:
    """New whole lines of a file of JSON objects that grows, or is written anew.

    Lines that are no objects, such as a full disk leaves, are left out; one without its end waits
    for it. A file that was cut back, or replaced, is known by what stands before the place that was
    reached: inodes are given out again, and some shares give a file another one at every look.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._void = False
        """Whether lines were given that do not stand any more; kept until that is told."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._place, self._mark = 0, b""
        self._looked: tuple[int, ...] | None = None
        """What told the file from others when all of it was read."""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Lines since the last call, of a few MiB at most, and whether earlier ones are void.

        None means that there are no more now. A file that is gone has no lines.

        Raises:
            OSError: the file cannot be read at this moment.
        """
        found: list[dict[str, Any]] = []
        while not found and (whole := self._whole_lines()):
            found = [one for line in whole.splitlines() if (one := _object(line)) is not None]
        void, self._void = self._void, False
        return found, void

    def _whole_lines(self) -> bytes:
        """What follows the place, up to which it then has moved."""
        try:
            if _looks(self._path.stat()) == self._looked:
                return b""
            with self._path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                stream.seek(self._place - len(self._mark))
                known = stream.read(len(self._mark)) == self._mark
                stream.seek(self._place if known else 0)
                data = stream.read(BYTES)
        except FileNotFoundError:
            self._void |= self._place > 0
            self._begin_anew()
            return b""
        if not known:
            self._void = True
            self._begin_anew()
        self._looked = _looks(found) if self._place + len(data) >= found.st_size else None
        # Of a line that is longer than any report the beginning is left out, too.
        whole = data[: data.rfind(b"\n") + 1] or (data if len(data) == BYTES else b"")
        self._place += len(whole)
        self._mark = (self._mark + whole)[-MARK_BYTES:]
        return whole


def _looks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def objects(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a file of JSON objects; none where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    tail, found = Tail(path), []
    while lines := tail.read()[0]:
        found += lines
    return found


def last_object(path: Path) -> dict[str, Any] | None:
    """The last whole line of a file of JSON objects, from the file's end alone; None: none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            size, span = stream.seek(0, os.SEEK_END), END_BYTES
            while True:
                start = max(0, size - span)
                stream.seek(start)
                data = stream.read(size - start)
                lines = data[: data.rfind(b"\n") + 1].splitlines()
                for line in reversed(lines if start == 0 else lines[1:]):
                    if (one := _object(line)) is not None:
                        return one
                if start == 0:
                    return None
                span *= 4
    except FileNotFoundError:
        return None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None  # a disk that was full
    return found if isinstance(found, dict) else None
