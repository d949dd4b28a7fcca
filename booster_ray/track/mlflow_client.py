"""MLflow's client, made so that several processes may begin with one database."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

SQLITE = "sqlite:///"


def mlflow_client(tracking_uri: str, registry_uri: str | None = None) -> Any:
    """An ``MlflowClient``; MLflow and its servers' addresses load here.

    MLflow creates the tables of an SQLite file at the first request, and two processes that do so
    at once fail ("table … already exists"): one waits here until the other has done it.

    Raises:
        MlflowException: the first request to a database failed.
        OSError: the database's folder cannot be written.
    """
    from mlflow import MlflowClient

    databases = sorted(
        {uri for uri in (tracking_uri, registry_uri) if uri and uri.startswith(SQLITE)}
    )
    with ExitStack() as locks:
        for uri in databases:
            locks.enter_context(_only_one(Path(uri.removeprefix(SQLITE))))
        client = MlflowClient(tracking_uri, registry_uri)
        # Some of it happens at the first request.
        if tracking_uri in databases:
            client.search_experiments(max_results=1)
        if (registry_uri or tracking_uri) in databases:
            client.search_registered_models(max_results=1)
    return client


@contextmanager
def _only_one(database: Path) -> Iterator[None]:
    """Of this user's processes on this machine; nothing is left beside the database."""
    database.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(database.absolute()).encode()).hexdigest()[:16]
    name = f"booster_ray-{os.getuid()}-{digest}.lock"
    with (Path(tempfile.gettempdir()) / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
