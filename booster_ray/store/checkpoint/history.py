"""The checkpoints of one run: the newest that is whole, and how many to keep."""

import os
import re
import shutil
import stat
import warnings
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.leaves import Tree
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.checkpoint.store import MANIFEST, discard, load, segments, temp_name
from booster_ray.store.durable import names_in


def load_newest(
    directory: Path, pattern: str = "step_*", logs_on_disk: bool = False
) -> tuple[Tree, dict[str, Any], Path] | None:
    """Loads the newest checkpoint that is whole; returns (tree, metadata, path), or None if none.

    Newest is the one with the largest (last) integer in its name. A damaged one is passed over
    with a warning that names the bad file.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged.
        OSError: the directory cannot be listed, so that it is not known whether there are any.
    """
    candidates = newest_first(directory, pattern)
    for path in candidates:
        try:
            return *load(path, logs_on_disk=logs_on_disk), path
        except CheckpointError as error:
            last = error
            warnings.warn(f"damaged checkpoint passed over: {error}", stacklevel=2)
    if candidates:
        text = f"all {len(candidates)} checkpoints are damaged; of the oldest, {last}"
        raise CheckpointError(f"{directory}: {text}")
    return None


def prune(
    directory: Path, keep: int, protect: Collection[Path] = (), pattern: str = "step_*"
) -> None:
    """Removes all checkpoints but the newest `keep` and those in `protect`, and unused segments.

    Raises:
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, must be at least 1")
    protected = {path.resolve() for path in protect}
    for path in newest_first(directory, pattern)[keep:]:
        if path.resolve() not in protected:
            discard(path)
    drop_unused_segments(directory)


def drop_unused_segments(directory: Path) -> None:
    """Removes the segments that no checkpoint in `directory` lists."""
    used = set()
    for path in (directory / name for name in names_in(directory) if not name.startswith(".")):
        if not (path / MANIFEST).exists():
            continue
        try:
            listed = segments(path).values()
        except CheckpointError as error:
            if isinstance(error.__cause__, OSError):
                return  # not damaged but out of reach: what it lists is not known
            continue
        used |= {segment["file"] for log in listed for segment in log}
    for name in names_in(directory / SEGMENTS):
        if name not in used:
            (directory / SEGMENTS / name).unlink(missing_ok=True)


def clone(source: Path, target: Path) -> None:
    """Copies a checkpoint to the new directory `target`, its segments to the folder beside it.

    Segments are linked where the file system can, so a copy costs little.

    Raises:
        FileExistsError: `target` exists.
        CheckpointError: `source` is no checkpoint.
        OSError: a segment is gone, the disk is full, …
    """
    if os.path.lexists(target):
        raise FileExistsError(f"checkpoint exists: {target}")
    folder = target.parent / SEGMENTS
    folder.mkdir(parents=True, exist_ok=True)
    for name in {s["file"] for log in segments(source).values() for s in log}:
        _link(source.parent / SEGMENTS / name, folder / name)
    temp = temp_name(target)
    shutil.copytree(source, temp)
    os.rename(temp, target)


def _link(source: Path, target: Path) -> None:
    temp = temp_name(target)
    temp.unlink(missing_ok=True)
    try:
        os.link(source, temp)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, temp)
    os.replace(temp, target)


def newest_first(directory: Path, pattern: str) -> list[Path]:
    """Checkpoints by the last integer in their names. Raises OSError."""
    numbered = [
        (int(numbers[-1]), name, directory / name)
        for name in names_in(directory)
        if fnmatch(name, pattern)
        and not name.startswith(".")
        and (numbers := re.findall(r"\d+", name))
        and _is_folder(directory / name)
    ]
    return [path for *_, path in sorted(numbered, reverse=True)]


def _is_folder(path: Path) -> bool:
    """Whether it is one; raises OSError where that cannot be said, unlike ``Path.is_dir``."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False
