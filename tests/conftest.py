"""Before JAX loads: the CPU alone, and one compilation cache for all runs of the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; to make one takes seconds, so all processes share it."""
    from booster_ray.track.registry_mlflow import mlflow_client

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    database = root / "empty" / "mlflow.db"
    mlflow_client(f"sqlite:///{database}")
    return database


@pytest.fixture
def begun_mlflow(empty_mlflow: Path, tmp_path: Path) -> Path:
    """The database of the storage folder ``tmp_path``, which MLflow finds made."""
    return Path(shutil.copy(empty_mlflow, tmp_path))
