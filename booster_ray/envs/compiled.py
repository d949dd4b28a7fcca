"""Compiled models on disk: a process that starts worlds need not build the official ones anew."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mujoco

_log = logging.getLogger(__name__)

PACKAGES = ("mujoco", "sai-mujoco")
"""Their versions decide what is compiled, beside the source that asks for it."""


def cache_folder() -> Path:
    """``booster_ray/worlds`` in the user's cache (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "booster_ray" / "worlds"


def log_warnings() -> None:
    """Have MuJoCo's warnings logged, unless somebody else has taken them.

    By itself it prints them, and writes MUJOCO_LOG.TXT into whatever folder is current.
    """
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_log.debug)


def compiled(name: str, source: Path, build: Callable[[], mujoco.MjModel]) -> mujoco.MjModel:
    """``build()``, or the equal model that an earlier process kept of it.

    A file that cannot be read counts as absent, and a folder that cannot be written is left.

    Args:
        name: of the model, part of a file name.
        source: the file that defines ``build``; a change of it makes the cache forget.
        build: compiles the model.
    """
    log_warnings()  # of a damaged file
    path = cache_folder() / f"{name}-{_key(source)}.mjb"
    with suppress(ValueError, OSError, mujoco.FatalError):
        if path.stat().st_size:
            return mujoco.MjModel.from_binary_path(str(path))
    model = build()
    with suppress(OSError):
        _keep(model, path)
    return model


def _key(source: Path) -> str:
    versions = [importlib.metadata.version(package) for package in PACKAGES]
    digest = hashlib.sha256("\n".join(versions).encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _keep(model: mujoco.MjModel, path: Path) -> None:
    """Written aside and moved there: processes that start together see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        aside = Path(folder) / path.name
        mujoco.mj_saveModel(model, str(aside))
        aside.replace(path)
