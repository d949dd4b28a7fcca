"""Files of JSON objects, one a line, that grow: read from where the last reading ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

BYTES = 4 * 2**20
"""Read of a file at a time."""
MARK_BYTES = 256
"""Kept of what was read last, to know it again."""
END_BYTES = 2**16
"""Read at first to find a file's last line."""


class Tail:
    """New whole lines of a file of JSON objects that grows, or is written anew.

    Lines that are no objects, such as a full disk leaves, are left out; one without its end waits
    for it. Who cuts a file back puts another in its place (:func:`replace_text`), which is seen by
    its inode, or, where that was given out again, by what stands before the place reached.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._place, self._mark = 0, b""
        self._file: tuple[int, int] | None = None
        """Device and inode of what was read last."""
        self._looked: tuple[int, int] | None = None
        """Its size and time of change, once all of it was read."""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Lines since the last call, of a few MiB at most, and whether they begin at the start.

        None means that there are no more now. A file that is gone begins anew, without a line.

        Raises:
            OSError: the file cannot be read at this moment.
        """
        anew = False
        while True:
            try:
                if self._same(self._path.stat()):
                    return [], anew
                with self._path.open("rb") as stream:
                    again, data = self._new(stream)
            except FileNotFoundError:
                gone = self._file is not None
                self._forget()
                return [], anew or gone
            anew |= again
            # Of a line that is longer than any report the beginning is left out, too.
            whole = data[: data.rfind(b"\n") + 1] or (data if len(data) == BYTES else b"")
            self._place += len(whole)
            self._mark = (self._mark + whole)[-MARK_BYTES:]
            found = [one for line in whole.splitlines() if (one := _object(line)) is not None]
            if found or not whole:
                return found, anew

    def _same(self, found: os.stat_result) -> bool:
        """Whether a file that was read to its end has not been touched since."""
        file = found.st_dev, found.st_ino
        return file == self._file and (found.st_size, found.st_mtime_ns) == self._looked

    def _new(self, stream: BinaryIO) -> tuple[bool, bytes]:
        """Whether another file, or other content, is there now, and what follows the place."""
        found = os.fstat(stream.fileno())
        file = found.st_dev, found.st_ino
        stream.seek(self._place - len(self._mark))
        anew = file != self._file or stream.read(len(self._mark)) != self._mark
        if anew:
            self._forget()
            stream.seek(0)
        data = stream.read(BYTES)
        whole = self._place + len(data) >= found.st_size
        self._file, self._looked = file, (found.st_size, found.st_mtime_ns) if whole else None
        return anew, data


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
