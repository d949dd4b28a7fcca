"""Ends a process that makes no progress any more, with the stacks of all its threads.

What hangs may be code of C's, a lock, another process or a dead mount, so nothing is asked of the
thread that hangs. A thread of Python's ends the process; where it cannot run, because what hangs
holds the interpreter's lock, faulthandler's own thread does, a little later.
"""

from __future__ import annotations

import faulthandler
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from booster_ray.config.errors import OWN, users_place

EXIT_CODE = 1
RECORD_SECONDS = 30.0
"""How long it may take to write down what hangs: the storage may hang as well."""
LONGEST_POLL = 5.0
COMPILER = ("jax", "_src", "compiler.py")
"""What is on a thread's stack while JAX compiles."""

Stalled = Callable[[str, str], object]
"""Is told where the process hangs, and the stacks of all threads; runs in a thread of its own."""


class _Pulse:
    """Of this process."""

    last = 0.0
    """``time.monotonic()`` of the last progress."""
    begun = False
    """Whether there was any since the watch began."""
    times = 1.0
    """How many times as long as usual there may be none."""


def progress() -> None:
    """Something was done of what the process is there for; costs next to nothing."""
    _Pulse.last, _Pulse.begun = time.monotonic(), True


@contextmanager
def allowing(times: float) -> Iterator[None]:
    """Inside, progress may take so many times as long as usual; ``math.inf``: for ever."""
    before, _Pulse.times = _Pulse.times, max(times, _Pulse.times)
    try:
        yield
    finally:
        _Pulse.last, _Pulse.times = time.monotonic(), before


class Watchdog:
    """Context manager that ends the process when :func:`progress` is not called for long.

    One at a time in a process. It is entered by the thread that works.

    Args:
        seconds: the longest time without progress.
        first: the same until the first progress, and while JAX compiles.
        stalled: writes down what hangs, in at most ``RECORD_SECONDS``.
    """

    def __init__(self, seconds: float, first: float, stalled: Stalled) -> None:
        self._seconds, self._first, self._stalled = seconds, first, stalled
        self._poll = min(LONGEST_POLL, seconds / 5)
        self._ended = threading.Event()
        self._worker = 0

    def __enter__(self) -> Self:
        _Pulse.last, _Pulse.begun, _Pulse.times = time.monotonic(), False, 1.0
        self._worker = threading.get_ident()
        self._arm(self._left())
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._ended.wait(self._poll):
                left = self._left()
                if left <= 0:
                    self._end()
                self._arm(left)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _left(self) -> float:
        gone = time.monotonic() - _Pulse.last
        usual, first = self._seconds * _Pulse.times, self._first * _Pulse.times
        if not _Pulse.begun or (gone >= usual and _compiling()):
            return first - gone
        return usual - gone

    def _arm(self, left: float) -> None:
        """Have faulthandler end the process unless this thread comes back in time."""
        if math.isinf(left):
            faulthandler.cancel_dump_traceback_later()
            return
        after = left + RECORD_SECONDS + 2 * self._poll
        faulthandler.dump_traceback_later(after, exit=True, file=2)

    def _end(self) -> None:
        place, stacks = _place(self._worker), _stacks()

        def tell() -> None:
            os.write(2, f"{stacks}no progress for {self._seconds:g} s, in {place}\n".encode())
            self._stalled(place, stacks)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(RECORD_SECONDS)
        os._exit(EXIT_CODE)


def _stacks() -> str:
    """Of all threads, the newest call first."""
    descriptor = os.memfd_create("stacks")  # no disk, which may be what hangs
    with open(descriptor, "w+b") as stream:
        faulthandler.dump_traceback(file=stream, all_threads=True)
        stream.seek(0)
        return stream.read().decode("utf-8", "replace")


def _compiling() -> bool:
    """Whether a thread is in JAX's compiler, as when the first update follows many steps."""
    frames = sys._current_frames().values()
    return any(path.parts[-len(COMPILER) :] == COMPILER for f in frames for path, _ in _lines(f))


def _place(worker: int) -> str:
    """Where the worker stands: the line of a user's own file, of whatever thread, or its last."""
    frames = sys._current_frames()
    mine = frames.pop(worker, None)
    for frame in (mine, *frames.values()):
        if frame and (place := users_place(_lines(frame))):
            return place
    if mine is None:
        return "a thread that has ended"
    path, line = _lines(mine)[-1]
    return f"{path.name}:{line}"


def _lines(frame: FrameType) -> list[tuple[Path, int]]:
    """Files and lines of a stack, the newest call last; not of those who call this package."""
    found = [(Path(f.f_code.co_filename), line) for f, line in traceback.walk_stack(frame)][::-1]
    ours = (i for i, (path, _) in enumerate(found) if path.is_relative_to(OWN))
    return found[next(ours, 0) :]
