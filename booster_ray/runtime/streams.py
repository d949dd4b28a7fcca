"""Standard output and error that a command does not depend on.

A terminal is closed, a pipe's reader leaves, a disk that a log is redirected to is full, a locale
has no sign for "…": none of that ends a training run. What cannot be written is left out, and said
once where it still can be.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET)
"""Errors of a stream that nobody will read again; of others, as a full disk, it may recover."""


class Forgiving:
    """A text stream that raises nothing when it is written to or flushed; the rest is as before.

    Args:
        stream: what is written to.
        name: for the one line that says that it cannot be.
        quiet: say nothing where a reader has had enough.
    """

    def __init__(self, stream: TextIO, name: str, quiet: bool = False) -> None:
        self._stream, self._name, self._quiet = stream, name, quiet
        self.error: OSError | ValueError | None = None
        """Why something was left out, the first time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write what can be; returns the length of the text."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            plain = text.encode(encoding, "replace").decode(encoding, "replace")
            self._try(lambda: self._stream.write(plain))
        except (OSError, ValueError, RuntimeError) as error:
            self._failed(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what can be."""
        self._try(self._stream.flush)

    def _try(self, action: Any) -> None:
        try:
            action()
        except (OSError, ValueError, RuntimeError) as error:
            self._failed(error)

    def _failed(self, error: OSError | ValueError | RuntimeError) -> None:
        if isinstance(error, RuntimeError):
            return  # a signal's handler wrote amid a write: the line is lost, no more
        if isinstance(error, OSError) and error.errno in GONE:
            self.drop()
        if self.error is None:
            self.error = error
            self._tell(error)

    def _tell(self, error: OSError | ValueError) -> None:
        other = sys.stderr
        if other is self or (self._quiet and isinstance(error, BrokenPipeError)):
            return
        why = getattr(error, "strerror", None) or error
        with suppress(OSError, ValueError, RuntimeError):
            print(f"note: {self._name} cannot be written ({why}): going on without", file=other)

    def drop(self) -> None:
        """Let all that is and will be written here vanish, in native code and children too."""
        with suppress(OSError, ValueError):
            _to_null(self._stream.fileno())
            self._stream.flush()

    def end(self) -> None:
        """Before the interpreter ends: leave nothing that it would fail to flush."""
        if self._stream.closed:  # as one that a test has put in the place of the true one
            return
        self.flush()
        if self.error is not None:
            self.drop()


def forgive_streams(quiet: bool = False) -> None:
    """Make this process's output and error :class:`Forgiving`; what was closed leads nowhere.

    Args:
        quiet: see :class:`Forgiving`.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would take its place, and its output
            _to_null(descriptor)
    for descriptor, attribute in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, attribute)
        if isinstance(stream, Forgiving):
            continue
        if stream is None:
            stream = os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
        name = "standard output" if descriptor == 1 else "standard error"
        forgiving = Forgiving(stream, name, quiet)
        setattr(sys, attribute, cast(TextIO, forgiving))
        atexit.register(forgiving.end)


def lost_output() -> OSError | ValueError | None:
    """Why part of standard output was not written; None: all was, or its reader had enough."""
    if not isinstance(sys.stdout, Forgiving):
        return None
    sys.stdout.flush()
    error = sys.stdout.error
    return None if isinstance(error, BrokenPipeError) else error


def _to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == descriptor:
        os.set_inheritable(null, True)
        return
    os.dup2(null, descriptor)
    os.close(null)
