"""The files of a run and of a sweep by name, and what everyone reads of them."""

from __future__ import annotations

import json
from pathlib import Path

from booster_ray.store.failure import ERROR, FAILURE, TRACEBACK
from booster_ray.store.identity import RUN_ID

SWEEP = "sweep.yaml"
"""What marks a sweep's folder: its checked config."""
CONFIG = "config.yaml"
"""What marks a run's folder: its resolved config."""
PROGRESS = "progress.jsonl"
"""One line a report."""
SYSTEM = "system.jsonl"
"""Readings of the machine beside a run, and alerts: ``env_steps`` and what was read, a line."""
STOP_FILE = "stop-requested"
"""While this file stands in a run's or sweep's folder, runs save a checkpoint and end early."""
STUDY = "study.db"
"""A sweep's Optuna study, where it is not in a database that all machines reach."""
SPENT = "spent.json"
"""Hours that a sweep has taken, over all its drivers."""
ROBUSTNESS = "robustness.json"
"""A finished run's score under randomization, the second objective."""

RECORDS = (CONFIG, PROGRESS, ERROR, FAILURE, TRACEBACK, RUN_ID, SYSTEM, "attempts.json")
"""What of a run is copied to remote storage beside the checkpoints."""


def read_progress(directory: Path) -> list[dict[str, float]]:
    """The reports recorded in a run directory; a line cut short by a kill is left out."""
    try:
        lines = (directory / PROGRESS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    reports = []
    for line in lines:
        try:
            reports.append(json.loads(line))
        except ValueError:
            break
    return reports


def best_checkpoint(directory: Path) -> Path | None:
    """The run's ``best_N`` directory, or None before the first evaluation."""
    return max(directory.glob("best_*"), default=None)
