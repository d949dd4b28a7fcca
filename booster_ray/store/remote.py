"""Storage that files can only be copied to whole: object stores, Unity Catalog volumes.

Such storage knows no append, no rename and no locks, so a run works in a local folder and copies
what it has finished. S3 and Google Cloud Storage go through pyarrow, which Ray brings along;
other URLs through whatever fsspec finds installed for them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from booster_ray.runtime.watchdog import progress

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
        self._in_arrow = self.url.partition("://")[0] in ARROW
        self._has_folders = not self._in_arrow

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
        progress()

    def write(self, name: str, data: bytes) -> None:
        """Write a small file whole, in the place of what is there."""
        with self._plainly(missing=StorageError):
            if self._has_folders:
                self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            with self._fs.open(self._path(name), "wb") as stream:
                stream.write(data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one; returns whether it is ours.

        Of several machines that do so at once one succeeds: S3, Google Cloud Storage, mounted
        volumes and most of fsspec's file systems can refuse a name that is taken. Others are
        written and read back, which two machines within the same moment may both take for theirs.
        """
        with self._plainly(missing=StorageError):
            if self._has_folders:
                self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            try:
                return _create(self.url, self._fs, self._path(name), name, data)
            except _NotOffered:
                pass
            if self.read(name) is not None:
                return False
            self.write(name, data)
            return self.read(name) == data

    def copy(self, source: str, target: str) -> bool:
        """Copy a file within the storage; False: it is not there, or has to go through here."""
        inner = self._fs.fs.copy_file if self._in_arrow else self._fs.cp_file
        try:
            if self._has_folders:
                self._fs.makedirs(self._path(target).rpartition("/")[0], exist_ok=True)
            inner(self._path(source), self._path(target))
        except (OSError, NotImplementedError):
            return False
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
            progress()
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
            self.write(name, b"x")
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


class _NotOffered(Exception):
    """This storage cannot refuse a name that is taken, or not by the way that was tried."""


def _create(url: str, fs: Any, path: str, name: str, data: bytes) -> bool:
    """The storage's own way to make a file that is not there; raises _NotOffered."""
    if url.partition("://")[0] in ARROW:
        return _create_object(url, fs, name, data)
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.spec import AbstractFileSystem

    if type(fs).pipe_file is AbstractFileSystem.pipe_file and type(fs) is not LocalFileSystem:
        raise _NotOffered  # fsspec's own looks first, and then writes
    try:
        if type(fs) is LocalFileSystem:
            with open(path, "xb") as stream:
                stream.write(data)
        else:
            fs.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except (OSError, TypeError, ValueError, NotImplementedError) as error:
        raise _NotOffered from error
    return True


def _create_object(url: str, fs: Any, name: str, data: bytes) -> bool:
    """By ``If-None-Match`` or a generation match, which pyarrow does not offer."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        obstore.put(_object_store(url, getattr(fs.fs, "region", None)), name, data, mode="create")
    except AlreadyExistsError:
        return False
    except (BaseError, OSError) as error:  # for example credentials that only AWS's library reads
        raise _NotOffered from error
    return True


@functools.cache
def _object_store(url: str, region: str | None) -> Any:
    """The client of obstore for what pyarrow reads from the same URL and environment."""
    from obstore.store import from_url

    plain, _, query = url.partition("?")
    asked = {key: values[-1] for key, values in parse_qs(query).items()}
    endpoint = asked.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"{asked.get('scheme', 'https')}://{endpoint}"
    options: dict[str, Any] = {
        "client_options": {"allow_http": True, "connect_timeout": "5s", "timeout": "30s"},
        "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    }
    if plain.startswith("s3://"):
        options |= {"region": asked.get("region") or region or "us-east-1"}
        options |= {"endpoint": endpoint} if endpoint else {}
    return from_url(plain.replace("gcs://", "gs://", 1), **options)


def _connect(url: str) -> tuple[Any, str]:
    import fsspec

    if url.partition("://")[0] in ARROW:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        inner, root = FileSystem.from_uri(url)
        return ArrowFSWrapper(inner), root
    # What was listed a while ago may have changed since.
    return fsspec.core.url_to_fs(url, use_listings_cache=False)
