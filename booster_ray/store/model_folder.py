"""A model's folder, as registries keep it: its files by name, its checksums, what it tells.

``checkpoint/`` is the checkpoint itself, as the run left it; ``policy.onnx`` the same policy for
other programs; ``card.md`` and ``curves.png`` are for people; ``config.yaml`` is what was trained;
``gates.json`` what the gates said of just this checkpoint; and ``model.json`` tells it all to
programs, with the checksum of every other file. The checksum of ``model.json`` stands in the
registry, so that nothing can be changed unseen. Nothing in the folder is pickled.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from booster_ray.store.checkpoint import CheckpointError

FORMAT = "booster_ray-model/1"
MODEL, CARD, CURVES, CONFIG = "model.json", "card.md", "curves.png", "config.yaml"
CHECKPOINT, ONNX = "checkpoint", "policy.onnx"


def scores(metadata: Mapping[str, Any]) -> dict[str, float]:
    """What a checkpoint's evaluation said: ``score``, ``score/goalie``, ``survival/goalie``, …"""
    kinds = ("score", "survival", "fall_rate", "success", "touched")
    return {
        name: round(float(number), 6)
        for name, number in metadata.items()
        if name.partition("/")[0] in kinds and isinstance(number, int | float)
    }


def tags(facts: Mapping[str, Any], sha256: str) -> dict[str, str]:
    """What a registry shows of a version; keys are such that Unity Catalog takes them."""
    plain = ("run", "trial", "stage", "env_steps", "parameters", "bytes", "policy", "parent",
             "config", "randomization_level", "git_commit", "mlflow_run", "wandb_run")  # fmt: skip
    found = {key: str(facts[key]) for key in plain if facts.get(key) is not None}
    gates = {f"gate_{n}": "passed" if ok else "failed" for n, ok in facts["gates"].items()}
    told = {"scores": json.dumps(facts["scores"]), "sha256": sha256}
    if (score := facts["scores"].get("score")) is not None:
        told["score"] = f"{score:.4g}"
    return found | gates | told


def git_commit() -> str | None:
    """The commit of the code that runs, with ``+`` where it was changed; None: not known."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*args: str) -> str:
        asked = ["git", "-C", str(root), *args]
        return subprocess.check_output(asked, text=True, timeout=20, stderr=subprocess.DEVNULL)

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD").strip() + ("+" if changed.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``model.json``: the facts, and the checksum of every file in the folder."""
    sums = {name: _sum(folder / name) for name in _files(folder) if name != MODEL}
    told = {"format": FORMAT, "about": dict(facts), "sha256": sums}
    (folder / MODEL).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def checksum(folder: Path) -> str:
    """Of a packed model: all 64 hex digits."""
    return _sum(folder / MODEL)


def verify(folder: Path, sha256: str) -> dict[str, Any]:
    """What ``model.json`` tells, once every file is found as it says.

    Args:
        folder: of a packed model.
        sha256: that the model must have, or the beginning of it.

    Raises:
        CheckpointError: a file is missing, changed, or not of the model.
    """
    if not (folder / MODEL).is_file():
        raise CheckpointError(f"{folder / MODEL}: missing: not a model of booster_ray")
    if not checksum(folder).startswith(sha256):
        raise CheckpointError(f"{folder / MODEL}: checksum differs from {sha256[:12]}…")
    told = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    if told.get("format") != FORMAT:
        raise CheckpointError(f"{folder / MODEL}: format {told.get('format')!r}, expected {FORMAT}")
    here = {name for name in _files(folder) if name != MODEL}
    if odd := here.symmetric_difference(told["sha256"]):
        name = min(odd)
        raise CheckpointError(
            f"{folder / name}: {'not of the model' if name in here else 'missing'}"
        )
    for name, wanted in told["sha256"].items():
        if _sum(folder / name) != wanted:
            raise CheckpointError(f"{folder / name}: checksum differs from {MODEL}'s")
    about: dict[str, Any] = told["about"]
    return about


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
