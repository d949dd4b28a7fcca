"""A state tree as flat leaves, and arrays as .npy images in a file."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import ml_dtypes
import numpy as np

from booster_ray.store.checkpoint.errors import CheckpointError

Tree: TypeAlias = dict[str, Any]
"""Nested dicts with string keys; leaves are arrays, logs or int, float, str, bool, None."""

SCALARS = (int, float, str, bool, type(None))
NPY_KINDS = "biufcmMSU"  # numpy's own dtypes that .npy holds without pickle


def flatten(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (path, leaf), keys joined by '/'; an empty dict is a leaf of its own.

    Raises:
        ValueError: a key is not a string or holds a '/'.
    """
    for key, value in tree.items():
        if not isinstance(key, str) or "/" in key:
            raise ValueError(f"state tree: key {key!r} under '{prefix}' must be a str without '/'")
        path = prefix + key
        if isinstance(value, dict) and value:
            yield from flatten(value, path + "/")
        else:
            yield path, value


def unflatten(leaves: dict[str, Any]) -> Tree:
    """The inverse of `flatten`."""
    tree: Tree = {}
    for path, leaf in leaves.items():
        *parents, key = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = leaf
    return tree


def check_leaf(path: str, leaf: Any) -> Any:
    """The leaf as it is stored: a JSON scalar or empty dict as it is, an array on the host.

    Raises:
        TypeError: neither, or an array of a dtype that only pickle could store.
    """
    # The exact type: np.float64 is a float too, but must come back as the array scalar it is.
    if type(leaf) in SCALARS or isinstance(leaf, dict):
        return leaf
    kind = type(leaf).__name__
    if not (hasattr(leaf, "dtype") and hasattr(leaf, "__array__")):
        raise TypeError(f"state tree: '{path}' is a {kind}, not an array or a JSON scalar")
    try:
        array = np.asarray(leaf)
    except TypeError as error:  # jax's typed PRNG keys
        raise TypeError(f"state tree: '{path}' ({kind}) is no plain array: {error}") from None
    if array.dtype.kind not in NPY_KINDS and not _is_extension(array.dtype):
        raise TypeError(f"state tree: '{path}' has dtype {array.dtype}, which is not storable")
    return array


def host_copy(array: Any) -> np.ndarray:
    """The array in memory that nobody else writes; ml_dtypes' too. Copied once."""
    # JAX hands out views of device memory that its next step may take over.
    return np.array(array)


def write_array(stream: BinaryIO, array: np.ndarray) -> dict[str, Any]:
    """Appends `array` to a file open for writing and reading; returns its manifest entry."""
    raw = array.view(f"u{array.itemsize}") if _is_extension(array.dtype) else array
    offset = stream.tell()
    np.lib.format.write_array(stream, raw, allow_pickle=False)
    size = stream.tell() - offset
    stream.seek(offset)
    digest = _digest(stream, size)
    name = array.dtype.name if _is_extension(array.dtype) else array.dtype.str
    return {
        "offset": offset,
        "dtype": name,
        "shape": list(array.shape),
        "sha256": digest,
        "bytes": size,
    }


def read_array(file: Path, entry: dict[str, Any]) -> np.ndarray:
    """Reads what `write_array` wrote, having checked it against its manifest entry.

    Raises:
        CheckpointError: the file is missing, unreadable, or not the one that was written.
    """
    offset, size = entry.get("offset", 0), entry["bytes"]
    try:
        with file.open("rb") as stream:
            holds = os.fstat(stream.fileno()).st_size
            if holds < offset + size:
                text = f"holds {holds} bytes, at least {offset + size} were written"
                raise CheckpointError(f"{file}: {text}")
            stream.seek(offset)
            if _digest(stream, size) != entry["sha256"]:
                raise CheckpointError(f"{file}: checksum differs from the manifest's")
            stream.seek(offset)
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: missing, but the manifest lists it") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{file}: not an array file: {error}") from None
    return _as_recorded(file, array, entry)


def _digest(stream: BinaryIO, size: int) -> str:
    """SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (data := stream.read(min(size, 2**20))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def _as_recorded(file: Path, array: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    try:
        dtype = np.dtype(getattr(ml_dtypes, entry["dtype"], entry["dtype"]))
        if _is_extension(dtype) and array.dtype == np.dtype(f"u{dtype.itemsize}"):
            array = array.view(dtype)
    except TypeError:
        raise CheckpointError(f"{file}: unknown dtype {entry['dtype']!r}") from None
    if array.dtype != dtype or list(array.shape) != entry["shape"]:
        raise CheckpointError(
            f"{file}: holds {array.dtype}{list(array.shape)}, "
            f"the manifest says {dtype}{entry['shape']}"
        )
    return array


def _is_extension(dtype: np.dtype) -> bool:
    """Whether it is one of ml_dtypes' (bfloat16, float8_*, int4): .npy has no name for those."""
    return dtype.type.__module__ == "ml_dtypes"
