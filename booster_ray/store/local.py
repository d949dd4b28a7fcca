"""A folder on a disk or share, read and written as :class:`~.remote.RemoteFolder` is."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from booster_ray.store.durable import names_in, replace_text


class LocalFolder:
    """Small files of a folder; names are relative to it, parts joined by '/'.

    Args:
        path: of the folder, which is made when something is written.

    Raises:
        OSError: from every method, when the file system cannot do it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, str(path)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one; returns whether it is ours.

        It appears whole: a link to it is made, which fails where the name is taken. Where there
        are no links (some of FUSE) it is opened exclusively, and may be seen half for a moment.
        """
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        temp = file.with_name(f".{file.name}.tmp-{secrets.token_hex(8)}")
        try:
            _write_new(temp, data)
            try:
                os.link(temp, file)
            except FileExistsError:
                return False
            except OSError:
                return _created(file, data)
        finally:
            temp.unlink(missing_ok=True)
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a small text file whole, in the place of what is there."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, data.decode())

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None: there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, name: str = "") -> list[str]:
        """Names in a folder; empty if it is not there."""
        return names_in(self.path / name)

    def remove(self, name: str) -> None:
        """Remove a file; nothing if it is not there."""
        (self.path / name).unlink(missing_ok=True)


def _created(file: Path, data: bytes) -> bool:
    try:
        _write_new(file, data)
    except FileExistsError:
        return False
    return True


def _write_new(file: Path, data: bytes) -> None:
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
