"""MLflow's client, made so that several processes may begin with one database."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from booster_ray.store.database import SQLITE, sqlite_path, sqlite_url


def mlflow_client(tracking_uri: str, registry_uri: str | None = None) -> Any:
    """An ``MlflowClient``; MLflow and its servers' addresses load here.

    MLflow creates the tables of an SQLite file at the first request, in many steps. Two processes
    that do so at once fail ("table … already exists"), and so does whoever comes after one that was
    killed meanwhile, for good. So one creates it here, elsewhere, and it gets its name when whole;
    the others wait.

    Raises:
        MlflowException: the first request to a database failed.
        OSError: the database's folder cannot be written.
    """
    from mlflow import MlflowClient

    databases = sorted(
        {uri for uri in (tracking_uri, registry_uri) if uri and uri.startswith(SQLITE)}
    )
    for uri in databases:
        database = sqlite_path(uri)
        with _only_one(database):
            if not database.exists():
                _create(database)
    return MlflowClient(tracking_uri, registry_uri)


def _create(database: Path) -> None:
    """An empty database of MLflow's, there whole or not at all."""
    from mlflow import MlflowClient

    parts = [database.with_name(f"{database.name}.new{end}") for end in ("", "-journal")]
    for left_behind in parts:
        left_behind.unlink(missing_ok=True)
    client = MlflowClient(sqlite_url(parts[0]))
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    parts[0].replace(database)


@contextmanager
def _only_one(database: Path) -> Iterator[None]:
    """Of this user's processes on this machine; nothing is left beside the database."""
    database.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(database.absolute()).encode()).hexdigest()[:16]
    name = f"booster_ray-{os.getuid()}-{digest}.lock"
    with (Path(tempfile.gettempdir()) / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
