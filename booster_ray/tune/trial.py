"""One trial: a run in its own directory, bound to Ray Tune or to a Ray Train worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from booster_ray.config import load
from booster_ray.train.folder import SWEEP
from booster_ray.train.run import STOP_FILE, train_reporting


def trial_directory(root: Path, number: int) -> Path:
    """Where trial ``number`` of the sweep in ``root`` keeps its work."""
    return root / "trials" / f"{number:04d}"


def run_trial(config: dict[str, Any]) -> None:
    """Ray Tune's function trainable.

    ``config``: ``root`` (the sweep's folder), ``number`` and ``params`` (the suggestion).
    """
    root = Path(config["root"])
    directory = trial_directory(root, config["number"])
    resolved = load(root / SWEEP).resolve(config["params"])
    if resolved.trainer.workers:
        from ray.tune.integration.ray_train import TuneReportCallback

        from booster_ray.train.ray_train import fit_in_worker

        fit_in_worker(resolved, directory, root / STOP_FILE, [TuneReportCallback()])
    else:
        train_reporting(resolved, directory, root / STOP_FILE, tune.report)
