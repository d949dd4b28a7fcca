"""Checkpoints: a whole state tree on disk, atomic, checksummed, restored bit for bit."""

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.history import clone, load_newest, prune
from booster_ray.store.checkpoint.leaves import Tree
from booster_ray.store.checkpoint.log import Log
from booster_ray.store.checkpoint.store import load, save

__all__ = [
    "CheckpointError",
    "Log",
    "Tree",
    "clone",
    "load",
    "load_newest",
    "prune",
    "save",
]
