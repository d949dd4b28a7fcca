"""One checkpoint: a directory with all arrays in one file, and the manifest that vouches for them.

``step_N/arrays.bin`` holds the .npy images of the arrays one after another (one file, so that it
takes one fsync, and one upload); ``step_N/manifest.json`` says where each leaf lies, with its
checksum. What a :class:`~booster_ray.store.checkpoint.log.Log` holds lies in ``segments/`` beside
it.
Format 1, which is still read, had a file for each array.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from booster_ray.store.checkpoint import log
from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.leaves import (
    Tree,
    check_leaf,
    flatten,
    host_copy,
    read_array,
    unflatten,
    write_array,
)
from booster_ray.store.checkpoint.log import SEGMENTS, Log, Segment
from booster_ray.store.durable import sync_folder

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
ARRAYS = "arrays.bin"
LEAF_FILE = re.compile(r"arrays\.bin|\d{5,}\.npy")
TEMP_DIR = re.compile(r"\..+\.tmp-(\d+)", re.DOTALL)


class Staged(NamedTuple):
    """A state that no longer changes, ready to be written."""

    leaves: dict[str, Any]
    """Arrays on the host, JSON scalars, and logs as :class:`log.Staged`."""
    metadata: dict[str, Any]


def stage(
    tree: Tree,
    metadata: dict[str, Any] | None = None,
    written: Mapping[str, Sequence[Segment]] | None = None,
) -> Staged:
    """Copies `tree` to memory of its own; of a log only what is not in its segments `written`.

    Raises:
        ValueError: a key is not a string or holds a '/', or `written` is of other logs.
        TypeError: a leaf is neither an array nor a JSON scalar, or `metadata` is not JSON.
        LookupError: rows of a log are gone.
    """
    metadata = json.loads(json.dumps(metadata or {}))
    flat = dict(flatten(tree))
    for leaf in flat.values():
        if hasattr(leaf, "copy_to_host_async"):  # all transfers at once, not one after the other
            leaf.copy_to_host_async()
    staged: dict[str, Any] = {}
    for name, leaf in flat.items():
        if isinstance(leaf, Log):
            staged[name] = log.stage(leaf, (written or {}).get(name, ()))
        else:
            checked = check_leaf(name, leaf)
            staged[name] = host_copy(checked) if isinstance(checked, np.ndarray) else checked
    return Staged(staged, metadata)


def write(path: Path, staged: Staged) -> int:
    """Writes `staged` to the new directory `path`, wholly or not at all; returns the bytes written.

    The directory appears under its name only when all of it is on disk. What interrupted saves
    of dead processes left beside it is removed first, so saves into one parent must not overlap
    within a process or across hosts.

    Raises:
        FileExistsError: `path` exists; it is left as it is.
        FileNotFoundError: a segment that was written before is gone.
        OSError: the disk is full, read-only, …
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "checkpoint exists", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)
    temp = temp_name(path)
    try:
        temp.mkdir()
        size = _write(temp, staged)
        _rename_new(temp, path)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    sync_folder(path.parent)
    return size


def save(path: Path, tree: Tree, metadata: dict[str, Any] | None = None) -> None:
    """Writes `tree` and `metadata` (JSON) to the new directory `path`; see `stage` and `write`."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "checkpoint exists", str(path))
    write(path, stage(tree, metadata))


def load(
    path: Path, keys: Iterable[str] | None = None, logs_on_disk: bool = False
) -> tuple[Tree, dict[str, Any]]:
    """Reads a checkpoint, each file of it checked; returns (tree, metadata).

    Arrays come back as NumPy arrays, bit for bit, scalars as the type they had, logs as an array
    of their rows or, with `logs_on_disk`, as a `Log` that reads them when it is asked to. With
    `keys` ('actor', 'actor/params') only those subtrees are read, at their place in the tree.

    Raises:
        CheckpointError: it does not exist, is damaged, is of an unknown format, or holds
            nothing under one of `keys`.
    """
    body = read_manifest(path)
    try:
        entries = _select(path, body["leaves"], keys)
        leaves = {name: _read_leaf(path, entry) for name, entry in entries.items()}
        if not logs_on_disk:
            whole = {n: np.asarray(x) for n, x in leaves.items() if isinstance(x, log.Log)}
            leaves |= whole
        return unflatten(leaves), body["metadata"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: malformed: {error!r}") from None


def segments(path: Path) -> dict[str, list[Segment]]:
    """The segments of every log in a checkpoint, oldest rows first.

    Raises:
        CheckpointError: as `load`, also where a segment's name would lead elsewhere; what the
            segments hold is not looked at.
    """
    try:
        entries = read_manifest(path)["leaves"].items()
        found = {name: list(entry["segments"]) for name, entry in entries if "segments" in entry}
        for file in (segment["file"] for listed in found.values() for segment in listed):
            log.check_name(path / MANIFEST, file)
        return found
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: malformed: {error!r}") from None


def discard(path: Path) -> None:
    """Removes a checkpoint, but for its segments."""
    # Renamed first: a removal cut short must not leave half a checkpoint under its name.
    doomed = temp_name(path)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


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


def _write(temp: Path, staged: Staged) -> int:
    entries: dict[str, Any] = {}
    written = 0
    with (temp / ARRAYS).open("x+b") as stream:
        for name, leaf in staged.leaves.items():
            if isinstance(leaf, log.Staged):
                entries[name], size = log.write(temp.parent, leaf)
                written += size
            elif isinstance(leaf, np.ndarray):
                entries[name] = {"file": ARRAYS, **write_array(stream, leaf)}
            else:
                entries[name] = {"value": leaf}
        stream.flush()
        os.fsync(stream.fileno())
        written += stream.tell()
    body = {"leaves": entries, "metadata": staged.metadata}
    manifest = {"format_version": FORMAT_VERSION, "sha256": digest(body), **body}
    with (temp / MANIFEST).open("x", encoding="utf-8") as text:
        json.dump(manifest, text, indent=1)
        text.flush()
        os.fsync(text.fileno())
        written += text.tell()
    if (temp.parent / SEGMENTS).is_dir():
        sync_folder(temp.parent / SEGMENTS)
    sync_folder(temp)
    return written


def read_manifest(path: Path) -> dict[str, Any]:
    """``leaves`` and ``metadata`` of a checkpoint, by its own checksum whole.

    Raises:
        CheckpointError: they are not, or there is none.
    """
    file = path / MANIFEST
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file}: missing: not a checkpoint, or a damaged one") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
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
    if manifest.pop("sha256", None) != digest(manifest):
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
    if "segments" in entry:
        return log.read(path.parent, path / MANIFEST, entry)
    name = entry["file"]
    if not LEAF_FILE.fullmatch(name):  # nothing outside the directory, whatever the manifest says
        raise CheckpointError(f"{path / MANIFEST}: not a leaf's file name: {name!r}")
    return read_array(path / name, entry)


def digest(body: dict[str, Any]) -> str:
    """Of the content's text, so that a flipped bit in a scalar is seen as well."""
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _rename_new(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, "checkpoint exists", str(target)) from None
        raise


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
