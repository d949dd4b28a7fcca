"""Stop signals: the first lets a run save what it has, a second Ctrl-C or SIGTERM ends it at once.

SIGHUP comes when a terminal is lost, SIGUSR1 from SLURM (``--signal``) and other schedulers some
time before they kill. Both may come again from one cause, so they only ever ask.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1
from typing import Any

Request = Callable[[str], None]
"""Asks a run to save and end; gets the signal's name. Must return at once."""

NOTICES = (SIGHUP, SIGUSR1)
"""Signals that ask, and never end at once."""

_requests: list[Request] = []
"""Runs of this process that want to hear of a signal."""
_held: dict[signal.Signals, Callable[[int, Any], None]] = {}
"""What :func:`stop_signals` has installed, while it lasts."""


def heard() -> list[signal.Signals]:
    """The signals that stop a command, but for those that it was begun to ignore (``nohup``)."""
    return [
        SIGINT,
        SIGTERM,
        *(one for one in NOTICES if signal.getsignal(one) is not signal.SIG_IGN),
    ]


@contextmanager
def stop_signals(request: Request) -> Iterator[None]:
    """In a main thread: the first of :func:`heard` makes the request, and runs hear of it.

    Raises:
        KeyboardInterrupt: at the second SIGINT or SIGTERM.
    """
    asked = insisted = False

    def stop(signum: int, _frame: Any) -> None:
        nonlocal asked, insisted
        if signum not in NOTICES:
            if insisted:
                raise KeyboardInterrupt
            insisted = True
        if asked:
            return
        asked = True
        request(signal.Signals(signum).name)
        _tell_runs(signal.Signals(signum).name)

    before = {one: signal.signal(one, stop) for one in heard()}
    _held.update(dict.fromkeys(before, stop))
    try:
        yield
    finally:
        _held.clear()
        for signum, handler in before.items():
            signal.signal(signum, handler or signal.SIG_DFL)  # None: of native code


def keep_listening() -> None:
    """Put the handlers of :func:`stop_signals` back where a library has taken their place."""
    for signum, handler in _held.items():
        if signal.getsignal(signum) is not handler:
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


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started meanwhile do not hear ``NOTICES``, nor do their children.

    A terminal that is lost tells all processes in its foreground; Ray's own would die of it, and
    the workers with them before they have saved. :func:`forward_signals` listens again.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOTICES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forward_signals() -> None:
    """In the main thread of a Ray worker: let the run hear a signal before the process ends.

    SIGTERM and ``NOTICES``. Ray's own handler of SIGTERM ends the process at once; it gets what no
    run waits for.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in heard():
        before = signal.getsignal(signum)
        if signum == SIGINT or getattr(before, "forwards", False):
            continue
        signal.signal(signum, _forward_to(before))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTICES)


def _forward_to(before: Any) -> Callable[[int, Any], None]:
    """A handler that tells runs, else does as the handler before."""

    def forward(signum: int, frame: Any) -> None:
        if _requests:
            _tell_runs(signal.Signals(signum).name)
        elif callable(before):
            before(signum, frame)
        else:
            raise SystemExit(128 + signum)

    forward.forwards = True  # type: ignore[attr-defined]
    return forward


def _tell_runs(name: str) -> None:
    while _requests:
        _requests.pop()(name)
