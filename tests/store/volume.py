"""A volume as Unity Catalog's are: whole files only."""

import os
import sys
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class Volume(LocalFileSystem):
    """``volume://``: refuses append, rename, random writes and partial overwrites."""

    protocol = "volume"
    put_before_failing: int | None = None
    """Writes that succeed before the connection breaks in the middle of one; None: all."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(str(path).removeprefix("volume://"))

    def _open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        if mode not in ("rb", "wb"):
            raise OSError(95, f"Operation not supported: mode {mode}", path)
        if mode == "wb" and type(self).put_before_failing is not None:
            if type(self).put_before_failing == 0:
                Path(path).write_bytes(b"half a fi")
                raise ConnectionResetError("the connection broke")
            type(self).put_before_failing -= 1
        return super()._open(path, mode, *args, **options)

    def mv(self, *args: Any, **options: Any) -> None:
        raise OSError(95, "Operation not supported: rename")

    move = rename = mv_file = cp_file = copy = touch = mv


_guarded: list[str] = []


def guard(folder: Path) -> None:
    """From now on the system refuses below ``folder`` what a volume refuses.

    Raises:
        OSError: at the forbidden call, whoever makes it in this process.
    """
    if not _guarded:
        sys.addaudithook(_refuse)
    _guarded.append(f"{folder}/")


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        forbidden = flags & os.O_APPEND or flags & os.O_RDWR or (writes and not flags & os.O_TRUNC)
    elif event in ("os.rename", "os.link", "os.symlink", "os.truncate"):
        path, forbidden = arguments[0], True
        path = next((p for p in arguments[:2] if _within(p)), path)
    else:
        return
    if forbidden and _within(path):
        raise OSError(95, f"Operation not supported: {event}", path)


def _within(path: Any) -> bool:
    return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(tuple(_guarded))
