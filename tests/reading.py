"""What this process reads of files, as its kernel counts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def counted() -> Iterator[list[int]]:
    """Afterwards the list holds the bytes that were read inside, on all threads."""
    found: list[int] = []
    before = _so_far()
    yield found
    found.append(_so_far() - before)


def _so_far() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])
