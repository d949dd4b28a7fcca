"""Checkpoints: a whole state tree on disk, atomic, checksummed, restored bit for bit."""

from booster_ray.store.checkpoint.errors import CheckpointError
from booster_ray.store.checkpoint.history import clone, load_newest, prune
from booster_ray.store.checkpoint.leaves import Tree
from booster_ray.store.checkpoint.log import Log
from booster_ray.store.checkpoint.store import load, save
from booster_ray.store.checkpoint.writer import Writer
from booster_ray.store.mirror import Mirror
from booster_ray.store.remote import RemoteFolder, StorageError

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
