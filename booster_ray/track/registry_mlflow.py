"""Versions in MLflow's model registry: a database file, a server, or Unity Catalog.

A version is an MLflow model of the ONNX flavour, with signature and input example, so that MLflow
itself can load and serve it without unpickling anything; our own files lie beside, in
``booster_ray/``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from booster_ray.policy.model_card import summary
from booster_ray.store.database import SQLITE, sqlite_path, sqlite_url
from booster_ray.store.lock import locked
from booster_ray.store.model_folder import ONNX, checksum, tags
from booster_ray.track.registry import Version, plainly, with_latest
from booster_ray.track.versions import LATEST

OURS = "booster_ray"
"""Folder of our own files within MLflow's model."""
LOGGED = "logged_model"
"""Tag: MLflow's id of what was logged."""

ENVIRONMENT = {
    # What a server does not answer soon, it will not: seven tries would take minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # usage reports are the user's to switch on
}
"""Defaults of MLflow's own settings."""


class MlflowRegistry:
    """A :class:`booster_ray.track.registry.Registry`.

    Args:
        tracking_uri: where runs and their artifacts are.
        registry_uri: where models are registered; None: there too.
        experiment: of the run that is made for a model that has none.
    """

    def __init__(
        self, tracking_uri: str, registry_uri: str | None = None, experiment: str = "booster_ray"
    ) -> None:
        self._tracking, self._registry = tracking_uri, registry_uri or tracking_uri
        self._experiment = experiment
        self.where = without_login(self._registry)
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        if self._connected is None:
            for name, text in ENVIRONMENT.items():
                os.environ.setdefault(name, text)
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            self._connected = mlflow_client(self._tracking, self._registry)
        return self._connected

    @property
    def _empty(self) -> bool:
        """Whether it is a database file that is not there: asking would create it."""
        return self._registry.startswith(SQLITE) and not sqlite_path(self._registry).exists()

    # -- what is there -----------------------------------------------------------------------

    def names(self) -> list[str]:
        """Names of all models."""
        if self._empty:
            return []
        with self._plainly():
            return sorted(model.name for model in _pages(self._client.search_registered_models))

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, the newest first; empty where there is no such model."""
        if self._empty:
            return []
        with self._plainly():
            from mlflow.exceptions import MlflowException

            try:
                model = self._client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return []
                raise
            quoted = name.replace("'", "")
            found = _pages(lambda **page: self._client.search_model_versions(
                f"name='{quoted}'", **page))  # fmt: skip
            # A search does not tell aliases everywhere; the model does.
            aliases = model.aliases.items()
            return with_latest(
                [_version(v, [a for a, n in aliases if str(n) == str(v.version)]) for v in found]
            )

    # -- a version more ----------------------------------------------------------------------

    def add(self, name: str, directory: Path, about: Mapping[str, Any]) -> int:
        """Keep a packed model; returns its number."""
        with self._plainly(), tempfile.TemporaryDirectory(prefix="booster_ray-") as scratch:
            model = Path(scratch) / "model"
            save_flavour(directory, model, about)
            shutil.copytree(directory, model / OURS)
            run = about.get("mlflow_run") or self._own_run(about)
            logged = self._log(model, str(run), about)
            self._ensure(name)
            told = {**tags(about, checksum(directory)), LOGGED: logged.model_id}
            made = self._client.create_model_version(
                name, logged.artifact_location, run, told, description=summary(about),
                model_id=logged.model_id,
            )  # fmt: skip
            return int(made.version)

    def _log(self, model: Path, run: str, about: Mapping[str, Any]) -> Any:
        client, experiment = self._client, self._client.get_run(run).info.experiment_id
        logged = client.create_logged_model(
            experiment, name=f"{about['run']}-{about['env_steps']}", source_run_id=run,
            tags={"stage": about["stage"]}, params={"config": about["config"]},
        )  # fmt: skip
        try:
            client.log_model_artifacts(logged.model_id, str(model))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        return client.finalize_logged_model(logged.model_id, "READY")

    def _own_run(self, about: Mapping[str, Any]) -> str:
        """A run for a model whose training was not tracked."""
        client = self._client
        found = client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else client.create_experiment(
            self._experiment, artifact_location=artifact_root(self._tracking)
        )  # fmt: skip
        run = client.create_run(experiment, run_name=f"{about['run']} model")
        for metric, value in about["scores"].items():
            client.log_metric(run.info.run_id, metric, value, step=about["env_steps"])
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _ensure(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise

    # -- a version's files, names and end ------------------------------------------------------

    def download(self, version: Version, folder: Path) -> Path:
        """Bring what :meth:`add` was given into an empty folder; returns where it lies in it."""
        with self._plainly():
            from mlflow.artifacts import download_artifacts

            uri = self._client.get_model_version_download_uri(version.name, str(version.number))
            found = download_artifacts(
                artifact_uri=uri, dst_path=str(folder),
                tracking_uri=self._tracking, registry_uri=self._registry,
            )  # fmt: skip
            return Path(found) / OURS

    def set_alias(self, version: Version, alias: str) -> None:
        """Move an alias to a version; ``latest`` is the newest by itself."""
        if alias != LATEST:
            with self._plainly():
                number = str(version.number)
                self._client.set_registered_model_alias(version.name, alias, number)

    def set_tag(self, version: Version, key: str, text: str) -> None:
        """Set a tag of a version."""
        with self._plainly():
            self._client.set_model_version_tag(version.name, str(version.number), key, text)

    def remove(self, version: Version) -> None:
        """Remove a version and the model that was logged for it; `mlflow gc` frees its disk."""
        with self._plainly():
            self._client.delete_model_version(version.name, str(version.number))
            if logged := version.tags.get(LOGGED):
                self._client.delete_logged_model(logged)

    def _plainly(self) -> AbstractContextManager[None]:
        return plainly(self.where, self._shown)

    def _shown(self, line: str) -> str:
        for uri in (self._registry, self._tracking):
            line = line.replace(uri, without_login(uri))
        return line


def save_flavour(packed: Path, folder: Path, about: Mapping[str, Any]) -> None:
    """MLflow's own files of a packed model: ONNX, signature and input example."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    seen, acted = about["observation_size"], about["action_size"]
    number = np.dtype("float32")
    mlflow.onnx.save_model(
        onnx.load(packed / ONNX),
        folder,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(number, (-1, seen), "observation")]),
            outputs=Schema([TensorSpec(number, (-1, acted), "action")]),
        ),
        input_example={"observation": np.zeros((1, seen), number)},
        pip_requirements=["mlflow", "onnx", "onnxruntime"],  # else they are found out by loading it
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
        metadata={"config": about["config"], "stage": about["stage"]},
    )


def without_login(uri: str) -> str:
    """A URI as it may be shown."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def artifact_root(tracking_uri: str) -> str | None:
    """Folder of artifacts beside a database file; None: the server knows."""
    if not tracking_uri.startswith(SQLITE):
        return None
    # MLflow would take a folder below the current one.
    root = sqlite_path(tracking_uri).absolute().parent / "mlartifacts"
    # Of a path it unquotes what looks like quoted; a URI says what is meant.
    return root.as_uri() if "%" in str(root) else str(root)


def _version(found: Any, aliases: list[str]) -> Version:
    created = found.creation_timestamp / 1000
    tagged = {str(key): str(text) for key, text in (found.tags or {}).items()}
    return Version(found.name, int(found.version), tuple(sorted(aliases)), tagged, created)


def _pages(search: Any) -> list[Any]:
    """All that a search finds, page by page."""
    found, token = [], None
    while True:
        page = search(page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return found


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
    with locked(Path(tempfile.gettempdir()) / name):
        yield
