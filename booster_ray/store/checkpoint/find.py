"""Which checkpoint a folder stands for: the one answer, whoever asks."""

from __future__ import annotations

from pathlib import Path

from booster_ray.store.checkpoint.store import MANIFEST
from booster_ray.store.files import ACTOR


def find_checkpoint(path: Path) -> Path | None:
    """The checkpoint or converted actor that a folder is or holds; None: neither.

    The first of these: the folder itself; the best of a sweep (``best/checkpoint``); that of a
    trial or model (``checkpoint``); a run's ``best_N``, then its ``step_N``, the newest of each
    that is whole.
    """
    for place in (path, path / "best" / "checkpoint", path / "checkpoint"):
        if is_policy(place):
            return place
    for pattern in ("best_*", "step_*"):
        if found := [place for place in path.glob(pattern) if is_policy(place)]:
            return max(found)
    return None


def is_policy(path: Path) -> bool:
    """Whether a folder is a checkpoint or a converted actor."""
    return (path / MANIFEST).is_file() or (path / ACTOR).is_file()
