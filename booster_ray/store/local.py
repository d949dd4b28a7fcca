"""A folder on a disk or share, read and written as :class:`~.remote.RemoteFolder` is."""

from __future__ import annotations

from pathlib import Path

from booster_ray.store.durable import create_file, names_in, replace_text


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
        """Write a small file unless there is one; returns whether it is ours."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        return create_file(file, data)

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
