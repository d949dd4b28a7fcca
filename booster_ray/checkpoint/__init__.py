"""Checkpoints: a whole state tree on disk, atomic, checksummed, restored bit for bit."""

from booster_ray.checkpoint.errors import CheckpointError
from booster_ray.checkpoint.history import load_newest, prune
from booster_ray.checkpoint.leaves import Tree
from booster_ray.checkpoint.store import load, save

__all__ = ["CheckpointError", "Tree", "load", "load_newest", "prune", "save"]
