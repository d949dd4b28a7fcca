"""From a checkpoint to a package, by way of gate 2."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from booster_ray.config import ConfigError
from booster_ray.evaluate.play import Progress, silent
from booster_ray.evaluate.target import checkpoint_actor, find_checkpoint
from booster_ray.policy import package
from booster_ray.policy.settings import settings_of
from booster_ray.store.gate_results import digest, read, store, stored

PACKAGE = "package"
"""Folder of a trial's or sweep's package."""


def export(checkpoint: Path, directory: Path, progress: Progress = silent) -> package.Package:
    """Make the package of a checkpoint, which appears only if it passes gate 2.

    The gate is played by the very files that are shipped, unless it has passed before under a key
    that names the same checkpoint, texts and versions. What the gates say is read from, and
    written to, ``gates.json`` beside the checkpoint.

    Args:
        checkpoint: of a run of the game.
        directory: must not exist; appears only when the package is whole and plays.
        progress: of the gate, where it is played.

    Raises:
        CheckpointError: the checkpoint is damaged, or its parts do not fit.
        ConfigError: gate 2 failed, ``directory`` exists, or sai_rl would refuse the package.
    """
    if directory.exists():
        raise ConfigError(str(directory), "exists, choose another folder with --output")
    actor, beside = checkpoint_actor(checkpoint), checkpoint.parent

    def gates(made: Path) -> dict[str, Any]:
        from booster_ray.evaluate.gates.conversion import jax_policy, judge
        from booster_ray.evaluate.gates.run import gate_key

        key = gate_key(checkpoint, 2)
        if stored(beside, checkpoint, 2, key) is not True:
            verdict = judge(actor.config, jax_policy(actor), made, progress=progress)
            store(beside, checkpoint, [verdict._replace(key=key)])
        told = (read(beside) or {})["gates"]
        if not told["2"]["passed"]:
            why = "; ".join(told["2"]["advice"])
            text = f"did not pass gate 2 (the package acts unlike the policy): not exported; {why}"
            raise ConfigError(str(checkpoint), text)
        return {"gates": told}

    about = {
        "checkpoint": str(checkpoint),
        "checkpoint_digest": digest(checkpoint),
        "config_digest": actor.config.digest(),
        "config": actor.config.to_dict(),
        "versions": {name: metadata.version(name) for name in ("torch", "sai-mujoco", "mujoco")},
    }
    try:
        return package.write(directory, actor.module, settings_of(actor.config), about, gates)
    except OSError as error:
        raise ConfigError(str(directory), f"cannot be written: {error.strerror}") from None


def export_again(source: Path, directory: Path) -> package.Package:
    """The package of an older release with what was added since; raises as :func:`export`."""
    try:
        return package.renew(source, directory)
    except OSError as error:
        raise ConfigError(str(directory), f"cannot be written: {error.strerror}") from None


def export_best(trial_dir: Path, directory: Path | None = None) -> Path:
    """The package of a trial's best checkpoint, in ``trial_dir/package`` unless said otherwise.

    One that an earlier end of the same sweep left there is replaced.

    Raises:
        CheckpointError, ConfigError: see :func:`export`.
    """
    checkpoint = find_checkpoint(trial_dir)
    directory = directory or trial_dir / PACKAGE
    new = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    export(checkpoint, new)
    shutil.rmtree(directory, ignore_errors=True)
    new.rename(directory)
    return directory
