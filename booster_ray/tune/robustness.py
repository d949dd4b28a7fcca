"""The second objective: the official score when masses, friction and more are not as trained."""

from __future__ import annotations

import json
from pathlib import Path

from booster_ray.config import Config
from booster_ray.evaluate.scores import Evaluator, flat_metrics
from booster_ray.store.durable import replace_text
from booster_ray.store.files import ROBUSTNESS, best_checkpoint
from booster_ray.train.policy import load_policy

LEVEL = 3
"""Of randomization."""
EPISODES = 4
"""A task, at least; each has factors of its own."""


def measure_robustness(config: Config, directory: Path) -> None:
    """Play a finished run's best policy at ``LEVEL`` and write the mean score beside it, once.

    Raises:
        checkpoint.CheckpointError: the best checkpoint is damaged.
    """
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


def read_robustness(directory: Path) -> dict[str, float]:
    """``robustness`` of a finished run, as a report has it; nothing when it is not known."""
    try:
        value = json.loads((directory / ROBUSTNESS).read_text(encoding="utf-8"))["robustness"]
    except (FileNotFoundError, ValueError):
        return {}
    return {} if value is None else {"robustness": value}
