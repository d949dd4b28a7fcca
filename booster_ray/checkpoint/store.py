"""One checkpoint: a directory of .npy files and the manifest that vouches for them."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.checkpoint.errors import CheckpointError
from booster_ray.checkpoint.leaves import (
    Tree,
    check_leaf,
    flatten,
    read_array,
    unflatten,
    write_array,
)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LEAF_FILE = re.compile(r"\d{5,}\.npy")
TEMP_DIR = re.compile(r"\..+\.tmp-(\d+)", re.DOTALL)


def save(path: Path, tree: Tree, metadata: dict[str, Any] | None = None) -> None:
    """Writes `tree` and `metadata` (JSON) to the new directory `path`, wholly or not at all.

    The directory appears under its name only when all of it is on disk. What interrupted saves
    of dead processes left beside it is removed first, so saves into one parent must not overlap
    within a process or across hosts.

    Raises:
        FileExistsError: `path` exists; it is left as it is.
        ValueError: a key is not a string or holds a '/'.
        TypeError: a leaf is neither an array nor a JSON scalar, or `metadata` is not JSON.
        OSError: the disk is full, read-only, …
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "checkpoint exists", str(path))
    # All that can be refused is refused before anything is written.
    metadata = json.loads(json.dumps(metadata or {}))
    leaves = {name: check_leaf(name, leaf) for name, leaf in flatten(tree)}
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)
    temp = temp_name(path)
    try:
        temp.mkdir()
        _write(temp, leaves, metadata)
        _rename_new(temp, path)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    _fsync_dir(path.parent)


def load(path: Path, keys: Iterable[str] | None = None) -> tuple[Tree, dict[str, Any]]:
    """Reads a checkpoint, each file of it checked; returns (tree, metadata).

    Arrays come back as NumPy arrays, bit for bit, scalars as the type they had. With `keys`
    ('actor', 'actor/params') only those subtrees are read, at their place in the tree.

    Raises:
        CheckpointError: it does not exist, is damaged, is of an unknown format, or holds
            nothing under one of `keys`.
    """
    body = _read_manifest(path)
    try:
        entries = _select(path, body["leaves"], keys)
        leaves = {name: _read_leaf(path, entry) for name, entry in entries.items()}
        return unflatten(leaves), body["metadata"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: malformed: {error!r}") from None


def temp_name(path: Path) -> Path:
    """Where this process assembles, or takes apart, the checkpoint `path`."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def remove_stale(directory: Path) -> None:
    """Removes the temporary directories that dead processes left in `directory`."""
    for entry in directory.iterdir():
        match = TEMP_DIR.fullmatch(entry.name)
        # Our own id on a directory is a dead process's too: saves of one process do not overlap.
        if match and (int(match[1]) == os.getpid() or not _alive(int(match[1]))):
            shutil.rmtree(entry, ignore_errors=True)


def _write(temp: Path, leaves: dict[str, Any], metadata: dict[str, Any]) -> None:
    entries: dict[str, Any] = {}
    for index, (name, leaf) in enumerate(leaves.items()):
        if isinstance(leaf, np.ndarray):
            entries[name] = write_array(temp / f"{index:05d}.npy", leaf)
        else:
            entries[name] = {"value": leaf}
    body = {"leaves": entries, "metadata": metadata}
    manifest = {"format_version": FORMAT_VERSION, "sha256": _digest(body), **body}
    with (temp / MANIFEST).open("x", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    _fsync_dir(temp)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file}: missing: not a checkpoint, or a damaged one") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{file}: not JSON") from None
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise CheckpointError(f"{file}: not a checkpoint manifest")
    version = manifest.pop("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{file}: unknown format_version {version!r}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: written by a newer version of booster_ray: "
            f"format {version}, this one reads {FORMAT_VERSION}"
        )
    if manifest.pop("sha256", None) != _digest(manifest):
        raise CheckpointError(f"{file}: checksum differs from its content's")
    return manifest


def _select(path: Path, entries: dict[str, Any], keys: Iterable[str] | None) -> dict[str, Any]:
    if keys is None:
        return entries
    chosen: set[str] = set()
    for key in keys:
        found = {name for name in entries if name == key or name.startswith(key + "/")}
        if not found:
            top = ", ".join(dict.fromkeys(name.split("/")[0] for name in entries))
            raise CheckpointError(f"{path}: holds nothing under '{key}' (it holds: {top})")
        chosen |= found
    return {name: entry for name, entry in entries.items() if name in chosen}


def _read_leaf(path: Path, entry: dict[str, Any]) -> Any:
    if "value" in entry:
        return entry["value"]
    name = entry["file"]
    if not LEAF_FILE.fullmatch(name):  # nothing outside the directory, whatever the manifest says
        raise CheckpointError(f"{path / MANIFEST}: not a leaf's file name: {name!r}")
    return read_array(path / name, entry)


def _digest(body: dict[str, Any]) -> str:
    """Of the content's text, so that a flipped bit in a scalar is seen as well."""
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _rename_new(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, "checkpoint exists", str(target)) from None
        raise


def _fsync_dir(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
