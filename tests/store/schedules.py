"""Processes on several machines that share one storage, their calls to it in a drawn order.

Every call waits for its turn, and the schedule says whose turn it is: so a process can be cut off
between any two calls, go on much later without knowing what happened meanwhile (a partition, a
late write), or never go on (a crash).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path


class Crashed(BaseException):
    """The process ends here, without a word; no handler of errors may take it for one."""


class Turns:
    """Lets one thread at a time go on to its next call."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turn: str | None = None
        self._crashing: set[str] = set()
        self._waiting: set[str] = set()
        self._alive: dict[str, threading.Thread] = {}
        self.errors: list[BaseException] = []

    def start(self, name: str, body: Callable[[], None]) -> None:
        """Begin a process, which stops before its first call."""

        def run() -> None:
            try:
                body()
            except Crashed:
                pass
            except BaseException as error:
                self.errors.append(error)
            with self._changed:
                del self._alive[name]
                self._turn = None if self._turn == name else self._turn
                self._changed.notify_all()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._changed:
            self._alive[name] = thread
            self._turn = name
        thread.start()
        self._settle(name)

    def alive(self) -> list[str]:
        """Processes that have not ended."""
        return sorted(self._alive)

    def step(self, name: str, crash: bool = False) -> None:
        """Let a process make its next call, and go on to the one after; or end it there."""
        with self._changed:
            if name not in self._alive:
                return
            if crash:
                self._crashing.add(name)
            self._turn = name
            self._waiting.discard(name)
            self._changed.notify_all()
        self._settle(name)

    def _settle(self, name: str) -> None:
        with self._changed:
            while name in self._alive and name not in self._waiting:
                assert self._changed.wait(30), f"{name} hangs"

    def wait(self) -> None:
        """In a process, before a call."""
        name = threading.current_thread().name
        if name not in self._alive:
            return  # the test itself
        with self._changed:
            self._turn = None
            self._waiting.add(name)
            self._changed.notify_all()
            while self._turn != name:
                assert self._changed.wait(60), "the test has ended"
        if name in self._crashing:
            raise Crashed


class Bucket:
    """An object store in memory, of a folder; the calls of :class:`RemoteFolder`."""

    def __init__(self, turns: Turns, files: dict[str, bytes], root: str = "") -> None:
        self._turns, self.files, self._root = turns, files, root
        self.url = f"bucket/{root}"

    def put(self, file: Path, name: str) -> None:
        self.write(name, file.read_bytes())

    def write(self, name: str, data: bytes) -> None:
        self._turns.wait()
        self.files[self._path(name)] = data

    def create(self, name: str, data: bytes) -> bool:
        self._turns.wait()
        return self.files.setdefault(self._path(name), data) is data

    def copy(self, source: str, target: str) -> bool:
        self._turns.wait()
        if (found := self.files.get(self._path(source))) is None:
            return False
        self.files[self._path(target)] = found
        return True

    def get(self, name: str, file: Path) -> None:
        found = self.read(name)
        if found is None:
            raise FileNotFoundError(name)
        file.write_bytes(found)

    def read(self, name: str) -> bytes | None:
        self._turns.wait()
        return self.files.get(self._path(name))

    def names(self, name: str = "") -> dict[str, int | None]:
        self._turns.wait()
        start, found = self._path(name) + "/" if name or self._root else "", {}
        for path, data in list(self.files.items()):
            if path.startswith(start):
                first, _, rest = path.removeprefix(start).partition("/")
                found[first] = None if rest else len(data)
        return found

    def remove(self, name: str) -> None:
        path = self._path(name)
        for file in [f for f in sorted(self.files) if f == path or f.startswith(path + "/")]:
            self._turns.wait()
            self.files.pop(file, None)

    def below(self, name: str) -> Bucket:
        return Bucket(self._turns, self.files, self._path(name))

    def _path(self, name: str) -> str:
        return "/".join(part for part in (self._root, name) if part)
