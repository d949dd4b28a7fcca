"""Versions on this machine: fetched once, verified whenever they are used, named for good."""

from __future__ import annotations

import operator
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from booster_ray.config import Config, Sweep
from booster_ray.config.experiments import KEY
from booster_ray.config.trees import put, sets
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.model_folder import CHECKPOINT, verify
from booster_ray.track.registry import (
    SHA256,
    Reference,
    Registry,
    RegistryError,
    Version,
    find,
    is_reference,
    open_registry,
    parse,
)

PLACE = "start_from"


def fetch(registry: Registry, version: Version, cache: Path, place: str = "command line") -> Path:
    """The folder of a version, from the cache or from the registry, every file of it verified.

    Raises:
        RegistryError: it has no checksum, is damaged where it is kept, or is out of reach.
    """
    who = f"{version.name} version {version.number}"
    sha256 = version.tags.get(SHA256, "")
    if not sha256:
        text = f"{who} in {registry.where} has no tag {SHA256}, expected a model of booster_ray"
        raise RegistryError(place, text)
    if found := cached(cache, sha256):
        return found
    target = cache / sha256[:32]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as scratch:
            folder = registry.download(version, Path(scratch))
            verify(folder, sha256)
            shutil.rmtree(target, ignore_errors=True)  # what did not verify
            os.rename(folder, target)
    except CheckpointError as error:
        text = str(error).replace(f"{folder}/", "")
        raise RegistryError(place, f"{who} in {registry.where} is damaged: {text}") from None
    except OSError as error:
        if again := cached(cache, sha256):  # another process was faster
            return again
        text = error.strerror or str(error)
        raise RegistryError("models.cache", f"cannot write {cache}: {text}") from None
    return target


def cached(cache: Path, sha256: str) -> Path | None:
    """A version in the cache, if it is there and whole; ``sha256`` may be the beginning."""
    for folder in cache.glob(f"{sha256[:32]}*"):
        try:
            verify(folder, sha256)
        except CheckpointError:
            continue
        return folder
    return None


def cache_of(config: Config) -> Path:
    """The folder of fetched versions."""
    return Path(config.models.cache).expanduser()


# -- start_from ------------------------------------------------------------------------------


def start_path(config: Config) -> Path:
    """The path that ``start_from`` means; what it names in a registry is fetched.

    Raises:
        RegistryError: no such model, version or alias, no registry, or a wrong checksum.
    """
    text = config.start_from or ""
    if not is_reference(text):
        return Path(text).expanduser()
    reference = parse(text, PLACE)
    # With a checksum no registry needs to be asked.
    found = cached(cache_of(config), reference.sha256) if reference.sha256 else None
    return (found or _fetched(config, reference)[1]) / CHECKPOINT


def pinned(sweep: Sweep) -> Sweep:
    """The same sweep with aliases in ``start_from`` replaced by the version that they name now.

    So trials that begin later, and a run that is resumed, start from the same policy, whoever has
    become champion meanwhile.

    Raises:
        RegistryError: as :func:`start_path`.
    """
    raw = sweep.raw
    for key in ((PLACE,), *((KEY, name, PLACE) for name in sweep.experiments)):
        start = reduce(operator.getitem, key, raw) if sets(raw, key) else None
        texts = start.get("values", []) if isinstance(start, Mapping) else [start]
        if not any(isinstance(text, str) and is_reference(text) for text in texts):
            continue
        config = sweep.base()
        fixed: Any = [_pin(config, text) for text in texts]
        raw = put(raw, key, {**start, "values": fixed} if isinstance(start, Mapping) else fixed[0])
    return sweep if raw is sweep.raw else Sweep.from_raw(raw, sweep.source)


def _pin(config: Config, text: Any) -> Any:
    if not isinstance(text, str) or not is_reference(text):
        return text
    reference = parse(text, PLACE)
    version, _ = _fetched(config, reference)
    number, sha256 = version.number, version.tags[SHA256][:32]
    return str(reference._replace(number=number, alias=None, sha256=sha256))


def _fetched(config: Config, reference: Reference) -> tuple[Version, Path]:
    registry = open_registry(config, reference)
    version = find(registry, reference, PLACE)
    held = version.tags.get(SHA256, "")
    if not held.startswith(reference.sha256):
        text = f"{reference} has checksum {held[:12]}… in {registry.where}, expected the one named"
        raise RegistryError(PLACE, text)
    return version, fetch(registry, version, cache_of(config), PLACE)
