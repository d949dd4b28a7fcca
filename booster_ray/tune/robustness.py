"""The second objective: the official score when masses, friction and more are not as trained."""

from __future__ import annotations

import json
from pathlib import Path

from booster_ray.config import Config
from booster_ray.store.durable import replace_text
from booster_ray.store.files import ROBUSTNESS, best_checkpoint

LEVEL = 3
"""Of randomization."""
EPISODES = 4
"""A task, at least; each has factors of its own."""


def measure_robustness(config: Config, directory: Path) -> None:
    """Play a finished run's best policy at ``LEVEL`` and write the mean score beside it, once.

    Raises:
        checkpoint.CheckpointError: the best checkpoint is damaged.
    """
    # A sweep's driver reads what was measured, and shall not hold JAX and MuJoCo for that.
    from booster_ray.evaluate.scores import Evaluator, flat_metrics
    from booster_ray.train.policy import load_policy

    path, best = directory / ROBUSTNESS, best_checkpoint(directory)
    if path.exists() or best is None:
        return
    _, policy = load_policy(best)
    episodes = max(EPISODES, config.evaluation.episodes_per_task)
    evaluator = Evaluator(config, episodes, config.trainer.cpus, level=LEVEL)
    try:
        played = flat_metrics(evaluator(policy))
    finally:
        evaluator.close()
    replace_text(path, json.dumps({"robustness": played.get("score")}) + "\n")


def read_robustness(directory: Path) -> float | None:
    """Of a finished run; None where it is not known."""
    try:
        value = json.loads((directory / ROBUSTNESS).read_text(encoding="utf-8"))["robustness"]
    except (FileNotFoundError, ValueError):
        return None
    return None if value is None else float(value)
