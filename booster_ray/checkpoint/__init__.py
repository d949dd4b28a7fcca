"""Checkpoints: a whole state tree on disk, atomic, checksummed, restored bit for bit."""

from booster_ray.checkpoint.errors import CheckpointError
from booster_ray.checkpoint.history import clone, load_newest, prune
from booster_ray.checkpoint.leaves import Tree
from booster_ray.checkpoint.log import Log
from booster_ray.checkpoint.mirror import Mirror
from booster_ray.checkpoint.storage import RemoteFolder, StorageError
from booster_ray.checkpoint.store import load, save
from booster_ray.checkpoint.writer import Writer

__all__ = [
    "CheckpointError",
    "Log",
    "Mirror",
    "RemoteFolder",
    "StorageError",
    "Tree",
    "Writer",
    "clone",
    "load",
    "load_newest",
    "prune",
    "save",
]
