"""The last stage's parts: the package, the champion, and what is handed to the competition."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from booster_ray.config import Config, ConfigError
from booster_ray.deploy.pipeline.definition import Folder
from booster_ray.evaluate.export import PACKAGE, export
from booster_ray.evaluate.submit import KEY, command
from booster_ray.evaluate.submit import submit as hand_over
from booster_ray.policy.package import MANIFEST
from booster_ray.store.durable import replace_text
from booster_ray.store.gate_results import digest, read
from booster_ray.store.model_folder import CHECKPOINT
from booster_ray.track.registry import Registry, Version, champion, check_gate
from booster_ray.track.registry import promote as make_champion
from booster_ray.track.versions import value

RECORD = "submission"
INTENT = "submitting.json"
"""Stands while a submission is under way, and tells of which version."""


def package(folder: Folder, version: Version, files: Path) -> Path:
    """The package of a version, made if it is not there.

    Raises:
        ConfigError, CheckpointError: see :func:`booster_ray.evaluate.export.export`.
    """
    directory = folder.path / PACKAGE / f"v{version.number}"
    checkpoint = files / CHECKPOINT
    if _packaged(directory) != digest(checkpoint):
        new = directory.with_name(f".{directory.name}.new")
        for old in (new, directory):
            shutil.rmtree(old, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        export(checkpoint, new)
        new.rename(directory)
    folder.publish_all(directory)
    return directory


def _packaged(directory: Path) -> str | None:
    """Digest of the checkpoint that a package was made of; None: there is no package."""
    try:
        about = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return str(about["checkpoint_digest"])
    except (OSError, ValueError, KeyError):
        return None


def promote(
    config: Config, registry: Registry, version: Version, files: Path, say: Callable[[str], object]
) -> bool | None:
    """Make a version champion, if it passed gate 3 and no champion is better.

    Returns:
        What gate 3 said of it; None: it was not run.
    """
    gate = ((read(files) or {}).get("gates") or {}).get("3")
    if gate is None:
        say(f"{version.name} version {version.number} did not play gate 3: no champion")
        return None
    if not gate["passed"]:
        for line in gate["advice"]:
            say(f"  {line}")
        return False
    now, metric = champion(registry.versions(version.name)), config.models.metric
    if now is not None and now.number != version.number:
        theirs, ours = value(now.scores, metric), value(version.scores, metric)
        if theirs is not None and (ours is None or ours <= theirs):
            say(f"champion stays {now.name} version {now.number}: its {metric} is {theirs:.3g}")
            return True
    check_gate(version, files)
    make_champion(registry, version)
    say(f"champion is {version.name} version {version.number}")
    return True


def submit(
    folder: Folder,
    version: Version,
    directory: Path,
    gate_3: bool | None,
    say: Callable[[str], object],
) -> str | None:
    """Hand a package to the competition, once; without a key, or gate 3, only say how.

    Returns:
        The submission's id; None: nothing was submitted.

    Raises:
        ConfigError: the competition refuses, or an earlier attempt was cut short in the middle.
    """
    if gate_3 is None or not os.environ.get(KEY):
        why = "gate 3 was not played" if gate_3 is None else f"{KEY} is not set"
        say(f"Not submitted, {why}. By hand: {command(directory)}")
        return None
    if (made := (folder.done(RECORD) or {})).get("version") == version.number:
        return str(made["submission"])
    intent = folder.path / INTENT
    if _number(intent) == version.number:
        text = (
            f"version {version.number} may have been submitted already: look it up there, "
            "then remove this file"
        )
        raise ConfigError(str(intent), text)
    replace_text(intent, json.dumps({"version": version.number}) + "\n")
    try:
        told = hand_over(directory, f"{folder.name}-v{version.number}")
    except ConfigError:  # it was not taken
        intent.unlink()
        raise
    folder.finish(RECORD, {"version": version.number, "submission": told})
    intent.unlink()
    return told


def _number(intent: Path) -> Any:
    try:
        return json.loads(intent.read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return None
