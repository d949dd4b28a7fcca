"""The checkpoints of one run: the newest that is whole, and how many to keep."""

import os
import re
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from booster_ray.checkpoint.errors import CheckpointError
from booster_ray.checkpoint.leaves import Tree
from booster_ray.checkpoint.store import load, temp_name


def load_newest(
    directory: Path, pattern: str = "step_*"
) -> tuple[Tree, dict[str, Any], Path] | None:
    """Loads the newest checkpoint that is whole; returns (tree, metadata, path), or None if none.

    Newest is the one with the largest (last) integer in its name. A damaged one is passed over
    with a warning that names the bad file.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged.
    """
    candidates = _newest_first(directory, pattern)
    for path in candidates:
        try:
            return *load(path), path
        except CheckpointError as error:
            warnings.warn(f"damaged checkpoint passed over: {error}", stacklevel=2)
    if candidates:
        raise CheckpointError(f"{directory}: all {len(candidates)} checkpoints are damaged")
    return None


def prune(
    directory: Path, keep: int, protect: Collection[Path] = (), pattern: str = "step_*"
) -> None:
    """Removes all checkpoints but the newest `keep` and those in `protect`.

    Raises:
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, must be at least 1")
    protected = {path.resolve() for path in protect}
    for path in _newest_first(directory, pattern)[keep:]:
        if path.resolve() not in protected:
            # Renamed first: a removal cut short must not leave half a checkpoint under its name.
            doomed = temp_name(path)
            os.rename(path, doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def _newest_first(directory: Path, pattern: str) -> list[Path]:
    numbered = [
        (int(numbers[-1]), path.name, path)
        for path in directory.glob(pattern)
        if not path.name.startswith(".")
        and (numbers := re.findall(r"\d+", path.name))
        and path.is_dir()
    ]
    return [path for *_, path in sorted(numbered, reverse=True)]
