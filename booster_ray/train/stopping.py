"""Stop signals: the first lets a run save what it has, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Request = Callable[[str], None]
"""Asks a run to save and end; gets the signal's name. Must return at once."""

_requests: list[Request] = []
"""Runs of this process that want to hear of a signal."""


@contextmanager
def stop_signals(request: Request) -> Iterator[None]:
    """In a main thread: the first SIGINT or SIGTERM makes the request, and runs hear of it.

    Raises:
        KeyboardInterrupt: at the second.
    """
    asked = False

    def stop(signum: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        request(signal.Signals(signum).name)
        _tell_runs(signal.Signals(signum).name)

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def on_signal(request: Request) -> Iterator[None]:
    """While this lasts, signals handled by this module are passed on to ``request``, once."""
    _requests.append(request)
    try:
        yield
    finally:
        if request in _requests:
            _requests.remove(request)


def forward_sigterm() -> None:
    """In the main thread of a Ray worker: let the run hear a SIGTERM before the process ends.

    Ray's own handler ends the process at once; it gets what no run waits for.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if getattr(before, "forwards", False):
        return

    def forward(signum: int, frame: Any) -> None:
        if _requests:
            _tell_runs("SIGTERM")
        elif callable(before):
            before(signum, frame)
        else:
            raise SystemExit(128 + signum)

    forward.forwards = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, forward)


def _tell_runs(name: str) -> None:
    while _requests:
        _requests.pop()(name)
