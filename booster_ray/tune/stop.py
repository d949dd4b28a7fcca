"""The wish that a sweep stops, which its trials read from a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from booster_ray.store.files import STOP_FILE


class Stop:
    """Asked for at most once; trials then save a checkpoint and end.

    Args:
        root: the sweep's folder.
        say: told why, once.
    """

    def __init__(self, root: Path, say: Callable[[str], object]) -> None:
        self._file, self._say = root / STOP_FILE, say
        self._file.unlink(missing_ok=True)
        self.requested = False
        self._written = self._told = False

    def request(self, why: str) -> None:
        """Ask, saying why."""
        if self.requested:
            return
        self.requested = True
        self._say(f"{why}. Stopping: trials save a checkpoint and end.")
        self._write()

    def heard(self) -> bool:
        """Whether the sweep stops; a user may ask for it by making the file."""
        with suppress(OSError):
            if not self.requested and self._file.exists():
                self.request(f"{self._file} is there")
        return self.requested

    def renew(self) -> bool:
        """Write the file if the storage was away at the request; true once, when it is there."""
        if not self.requested or self._told:
            return False
        self._write()
        self._told = self._written
        return self._told

    def _write(self) -> None:
        with suppress(OSError):
            self._file.touch()
            self._written = True
