"""Where the trackers of a run keep what they are told."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from booster_ray.config import Config
from booster_ray.config.paths import expanded
from booster_ray.store.database import sqlite_url
from booster_ray.store.durable import replace_text
from booster_ray.store.files import run_id
from booster_ray.store.folder import storage_path
from booster_ray.store.remote import is_remote

DATABASE = "mlflow.db"
"""MLflow's runs, beside the runs of a storage folder."""
MLFLOW_RUN = "mlflow_run"
"""In a run's folder, one line: MLflow's id of it."""


def mlflow_uri(config: Config) -> str:
    """MLflow's tracking URI of a run, ``${NAME}`` replaced from the environment.

    Raises:
        ConfigError: a variable in it is not set.
    """
    if uri := config.tracking.mlflow.uri:
        return expanded(uri, "tracking.mlflow.uri")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return expanded(uri, "MLFLOW_TRACKING_URI")
    return sqlite_url(storage_path(config.storage) / DATABASE)


def tracked(directory: Path) -> dict[str, str]:
    """``wandb_run`` and ``mlflow_run``, what trackers call a run; without those not known."""
    found = {"wandb_run": run_id(directory), "mlflow_run": _read(directory / MLFLOW_RUN)}
    return {key: text for key, text in found.items() if text}


def note_mlflow_run(directory: Path, run: str) -> None:
    """Keep MLflow's id of a run in its folder. Raises OSError."""
    if _read(directory / MLFLOW_RUN) != run:
        replace_text(directory / MLFLOW_RUN, run + "\n")


def later_command(config: Config, root: Path) -> str:
    """What to type to tell trackers what they have not got."""
    storage = config.storage if is_remote(config.storage) else root.parent
    return shlex.join(["python", "-m", "booster_ray.track", root.name, "--storage", str(storage)])


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
