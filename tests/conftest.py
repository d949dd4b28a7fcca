"""Before JAX loads: the CPU alone, and one compilation cache for all runs of the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

TOGETHER = "tests/envs/test_mjx"
"""How files begin that play the same compiled programs, see tests/envs/device.py."""


class ByFile(LoadFileScheduling):
    """The tests of a file, or of all files of ``TOGETHER``, run in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)


FIRST = ("tests/tune/test_sweep.py", TOGETHER, "tests/tune/", "tests/track/", "tests/train/")
"""How those files' names begin that take longest: begun last, one would run on alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        begins = [i for i, name in enumerate(FIRST) if item.nodeid.startswith(name)]
        return min(begins, default=len(FIRST))

    items.sort(key=place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


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


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test, or a command inside it, sets for its process is not there in the next."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)
