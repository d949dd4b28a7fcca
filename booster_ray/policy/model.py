"""A checkpoint as the model that a registry keeps: :mod:`booster_ray.store.model_folder`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from booster_ray import __version__
from booster_ray.config import Config
from booster_ray.store import checkpoint, gate_results
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.checkpoint.store import segments
from booster_ray.store.files import GATES
from booster_ray.store.model_folder import (
    CARD,
    CHECKPOINT,
    CONFIG,
    CURVES,
    ONNX,
    git_commit,
    scores,
    seal,
)


def pack(
    source: Path, run: Path, folder: Path, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the model of a checkpoint to the new directory ``folder``; returns what it tells.

    Args:
        source: a checkpoint of either stage.
        run: the folder of the run, for curves and verdicts.
        folder: must not exist.
        about: what only the caller knows, such as ``sweep`` and ``trial``.

    Raises:
        CheckpointError: the checkpoint is damaged, or its policy does not fit its config.
        OSError: it cannot be written.
    """
    from booster_ray.policy.actor_files import ONNX as ACTOR_ONNX
    from booster_ray.policy.actor_files import save_actor
    from booster_ray.policy.contract import contract_of
    from booster_ray.policy.convert import to_torch
    from booster_ray.policy.model_card import write_card, write_curves
    from booster_ray.policy.settings import settings_of

    folder.mkdir(parents=True)
    kept = folder / CHECKPOINT
    _keep(source, kept)
    tree, metadata = checkpoint.load(kept, keys=["learner"])  # what was copied, not what was there
    config = _config(source, metadata)
    actor = to_torch(config, tree["learner"])
    contract = contract_of(settings_of(config)) if config.world.is_soccer else None
    save_actor(actor, folder / "actor", contract=contract)
    (folder / "actor" / ACTOR_ONNX).rename(folder / ONNX)
    shutil.rmtree(folder / "actor")
    (folder / CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    told = gate_results.read(run)
    gates = told["gates"] if told and told["digest"] == gate_results.digest(kept) else {}
    if gates:
        shutil.copy(run / GATES, folder / GATES)
    facts = {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "run": config.name,
        "stage": config.stage,
        "env_steps": int(metadata.get("env_steps", 0)),
        "scores": scores(metadata),
        "parameters": sum(p.numel() for p in actor.parameters()),
        "observation_size": actor.observation_size,
        "action_size": actor.action_size,
        "bytes": sum(f.stat().st_size for f in kept.rglob("*") if f.is_file()),
        "policy": gate_results.digest(kept),
        "parent": config.start_from,
        "config": config.digest(),
        "randomization_level": config.randomization.level,
        "gates": {number: bool(gate["passed"]) for number, gate in gates.items()},
        "git_commit": git_commit(),
        "booster_ray": __version__,
        **(about or {}),
    }
    write_curves(run, folder / CURVES)
    write_card(facts, config, folder / CARD, contract)
    seal(folder, facts)
    return facts


def _keep(source: Path, target: Path) -> None:
    """Copy a checkpoint; one whose replay lies beside it is written anew with its learner alone."""
    if any(segments(source).values()):
        tree, metadata = checkpoint.load(source, keys=["learner"])
        checkpoint.save(target, tree, metadata)
    else:
        shutil.copytree(source, target)


def _config(source: Path, metadata: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(metadata["config"])
    except (KeyError, ValidationError) as error:
        line = " ".join(str(error).split())[:200]
        text = f"{source}: tells no config that this release reads: {line}"
        raise CheckpointError(text) from None
