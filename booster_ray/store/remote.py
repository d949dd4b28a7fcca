"""Storage that files can only be copied to whole: object stores, Unity Catalog volumes.

Such storage knows no append, no rename and no locks, so a run works in a local folder and copies
what it has finished. S3 and Google Cloud Storage go through pyarrow, which Ray brings along;
other URLs through whatever fsspec finds installed for them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

VOLUMES = ("/Volumes/",)
"""Mounted folders that are object stores underneath."""
ARROW = ("s3", "gs", "gcs")
LOCAL = ("file://", "local://")


class StorageError(OSError):
    """Storage cannot be used: one line that names it and says why."""


def is_remote(storage: str) -> bool:
    """Whether `storage` only takes whole files: a URL of another machine, or a volume."""
    return storage.startswith(VOLUMES) or ("://" in storage and not storage.startswith(LOCAL))


def local_path(storage: str) -> Path:
    """The folder that `storage` means, or where runs work on this machine if it is remote.

    That is below TMPDIR where it is set, as on a cluster's nodes, else below ~/.cache.
    """
    if not is_remote(storage):
        for scheme in LOCAL:
            storage = storage.removeprefix(scheme)
        return Path(storage).expanduser()
    scratch = os.environ.get("TMPDIR")
    base = Path(scratch) if scratch else Path.home() / ".cache"
    # Legible, and yet different for different storage.
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", storage.rstrip("/")).strip("_")
    digest = hashlib.sha256(storage.rstrip("/").encode()).hexdigest()[:8]
    return base / "booster_ray" / "storage" / f"{name}-{digest}"


class RemoteFolder:
    """A folder of remote storage; names are relative to it, parts joined by '/'.

    Args:
        url: URL, or path of a volume.

    Raises:
        StorageError: here and from every method, when the storage cannot be used.
        FileNotFoundError: from every method, when what was named is not there.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._plainly():
            self._fs, root = _connect(self.url)
        self._root = root.rstrip("/")
        self._has_folders = self.url.partition("://")[0] not in ARROW

    def put(self, file: Path, name: str) -> None:
        """Copy a file there whole, and see that all of it arrived."""
        target = self._path(name)
        with self._plainly(), file.open("rb") as source:
            if self._has_folders:
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            with self._fs.open(target, "wb") as stream:
                shutil.copyfileobj(source, stream, 2**22)
            sent, arrived = source.tell(), self._fs.info(target)["size"]
            if sent != arrived:
                raise StorageError(f"{self.url}/{name}: {arrived} of {sent} bytes arrived")

    def create(self, name: str, data: bytes) -> bool:
        """Make a small file; False: one of that name was there already, and stays."""
        if self.read(name) is not None:
            return False
        with TemporaryDirectory() as folder:
            file = Path(folder) / "data"
            file.write_bytes(data)
            self.put(file, name)
        return True

    def get(self, name: str, file: Path) -> None:
        """Copy a file from there; it appears under its name when all of it is here."""
        temp = file.with_name(f".{file.name}.tmp-{os.getpid()}")
        try:
            with (
                self._plainly(),
                self._fs.open(self._path(name), "rb") as source,
                temp.open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, 2**22)
            temp.replace(file)
        finally:
            temp.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None: there is none."""
        try:
            with self._plainly(), self._fs.open(self._path(name), "rb") as source:
                return bytes(source.read())
        except FileNotFoundError:
            return None

    def names(self, name: str = "") -> dict[str, int | None]:
        """Names in a folder with their sizes, None for a folder; empty if it is not there."""
        with self._plainly():
            try:
                found = self._fs.ls(self._path(name), detail=True)
            except FileNotFoundError:
                return {}
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: (
                None if entry["type"] == "directory" else entry["size"]
            )
            for entry in found
        }

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing if it is not there."""
        with self._plainly():
            try:
                self._fs.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                return

    def probe(self) -> None:
        """Write, read and remove a small file; no FileNotFoundError."""
        name = f".probe-{os.getpid()}"
        with self._plainly(missing=StorageError):
            if self._has_folders:
                self._fs.makedirs(self._root, exist_ok=True)
            with self._fs.open(self._path(name), "wb") as stream:
                stream.write(b"x")
            if self.read(name) != b"x":
                raise StorageError(f"{self.url}: what was written did not come back")
            self._fs.rm(self._path(name))

    def below(self, name: str) -> RemoteFolder:
        """A folder in this one."""
        return RemoteFolder(f"{self.url}/{name}")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _plainly(self, missing: type[OSError] = FileNotFoundError) -> Iterator[None]:
        """Whatever a file system raises, as a StorageError of one line."""
        try:
            yield
        except (missing, StorageError):
            raise
        except Exception as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise StorageError(f"{self.url}: {first}") from error


def _connect(url: str) -> tuple[Any, str]:
    import fsspec

    if url.partition("://")[0] in ARROW:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        inner, root = FileSystem.from_uri(url)
        return ArrowFSWrapper(inner), root
    # What was listed a while ago may have changed since.
    return fsspec.core.url_to_fs(url, use_listings_cache=False)
