"""One trial: a run in its own directory, bound to Ray Tune or to a Ray Train worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from booster_ray.config import Config, load
from booster_ray.train.run import Run
from booster_ray.tune.folder import SWEEP

STOP_FILE = "stop-requested"
"""While this file stands in a sweep's folder, its trials save a checkpoint and end early."""

POLL_SECONDS = 0.5


def trial_directory(root: Path, number: int) -> Path:
    """Where trial ``number`` of the sweep in ``root`` keeps its work."""
    return root / "trials" / f"{number:04d}"


def run_trial(config: dict[str, Any]) -> None:
    """Ray Tune's function trainable.

    ``config``: ``root`` (the sweep's folder), ``number`` and ``params`` (the suggestion).
    """
    root, number = Path(config["root"]), config["number"]
    resolved = load(root / SWEEP).resolve(config["params"])
    if resolved.trainer.workers:
        from booster_ray.train.ray_train import fit_in_worker

        fit_in_worker(resolved, trial_directory(root, number), root / STOP_FILE)
    else:
        train(resolved, trial_directory(root, number), root / STOP_FILE, tune.report)


def train(
    config: Config, directory: Path, stop_file: Path, report: Callable[[dict[str, Any]], None]
) -> None:
    """Run to the end or until ``stop_file`` appears, passing every report on.

    The last report has ``finished``: whether the budget was spent.
    """
    interrupt = threading.Event()
    threading.Thread(target=_watch, args=(stop_file, interrupt), daemon=True).start()
    run = Run(config, directory, interrupt)
    for metrics in run:
        finished = metrics["env_steps"] >= config.training.env_steps
        report({**metrics, "finished": finished})


def _watch(stop_file: Path, interrupt: threading.Event) -> None:
    while not stop_file.exists():
        time.sleep(POLL_SECONDS)
    interrupt.set()
