"""Runs and models for tests: small, and as the real ones are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.store import checkpoint
from booster_ray.store.files import GATES
from booster_ray.store.gate_results import GateResult, store
from booster_ray.store.model_folder import MODEL, seal
from policies import save_checkpoint, tiny_config

SCORES = {"score": 1.5, "score/goalie": 2.0, "score/obstacle": 1.0, "score/kick_to_target": 1.5,
          "success/goalie": 0.5, "survival/goalie": 9.0}  # fmt: skip


def run_folder(root: Path, scores: Mapping[str, float] = SCORES, **settings: Any) -> Path:
    """A run that has ended: config, reports, and the best checkpoint."""
    name = settings.setdefault("name", root.name)
    config = Config.model_validate({**tiny_config().to_dict(), **settings})
    made = save_checkpoint(root / "made", config)
    tree, metadata = checkpoint.load(made)
    shutil.rmtree(made)
    best = root / "best_000000000400"
    checkpoint.save(best, tree, {**metadata, **scores, "env_steps": 400})
    (root / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    reports = [{"env_steps": 0, "score": -2.5}, {"env_steps": 400, **scores}]
    lines = [json.dumps({**r, "episode_return": 3.0 + i}) for i, r in enumerate(reports)]
    (root / "progress.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert name == config.name
    return root


def judge(run: Path, source: Path, *, gate_3: bool) -> None:
    """As the gates leave their verdict of a checkpoint in a folder."""
    verdicts = [GateResult(2, "conversion", True, {}, [], []),
                GateResult(3, "transfer", gate_3, {}, [], [])]  # fmt: skip
    store(run, source, verdicts)


def variant(packed: Path, folder: Path, **facts: Any) -> tuple[Path, dict[str, Any]]:
    """The same packed model, telling something else of itself; without gates if it had none."""
    shutil.copytree(packed, folder)
    about = json.loads((folder / MODEL).read_text(encoding="utf-8"))["about"] | facts
    if not about["gates"]:
        (folder / GATES).unlink(missing_ok=True)
    seal(folder, about)
    return folder, about
