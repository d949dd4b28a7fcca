"""Versions as W&B artifacts of type ``model``; a model's name is ``ENTITY/PROJECT/NAME``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from booster_ray.policy.model_card import summary
from booster_ray.store.model_folder import checksum, tags
from booster_ray.track.registry import Version, plainly, with_latest
from booster_ray.track.versions import LATEST

TYPE = "model"
TIMEOUT_SECONDS = 20


def open_api() -> Any:
    """W&B's public interface, with the key that the environment or ~/.netrc holds."""
    import wandb

    return wandb.Api(timeout=TIMEOUT_SECONDS)


def open_run(**settings: Any) -> Any:
    """A new W&B run."""
    import wandb

    return wandb.init(job_type="model", reinit="create_new", **settings)


class WandbRegistry:
    """A :class:`booster_ray.track.registry.Registry`.

    Args:
        project: ``ENTITY/PROJECT``, for its :meth:`names`.
        api: opens W&B's public interface.
        run: begins the run that a new version is logged by.
    """

    def __init__(
        self,
        project: str,
        api: Callable[[], Any] = open_api,
        run: Callable[..., Any] = open_run,
    ) -> None:
        self._project, self._open, self._run = project, api, run
        self.where = f"W&B {project}".rstrip()
        self._connected: Any = None

    @property
    def _api(self) -> Any:
        if self._connected is None:
            self._connected = self._open()
        return self._connected

    def entity(self) -> str:
        """User or team that the key belongs to."""
        with self._plainly():
            return str(self._api.default_entity)

    def names(self) -> list[str]:
        """Names of all models of the project."""
        with self._plainly():
            found = self._api.artifact_collections(self._project, TYPE)
            return sorted(f"{self._project}/{one.name}" for one in found)

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, the newest first; empty where there is no such model."""
        with self._plainly():
            if not self._api.artifact_collection_exists(name, TYPE):
                return []
            return with_latest([_version(name, one) for one in self._api.artifacts(TYPE, name)])

    def add(self, name: str, directory: Path, about: Mapping[str, Any]) -> int:
        """Keep a packed model; returns its number."""
        with self._plainly():
            import wandb

            entity, project, short = name.split("/")
            artifact = wandb.Artifact(
                short,
                TYPE,
                description=summary(about),
                metadata=tags(about, checksum(directory)),
            )
            artifact.add_dir(str(directory))
            # Not the run that trained it, which its tracker may be writing to.
            with self._run(entity=entity, project=project, name=f"{about['run']} model") as run:
                logged = run.log_artifact(artifact).wait()
            return _number(logged)

    def download(self, version: Version, folder: Path) -> Path:
        """Bring what :meth:`add` was given into an empty folder; returns where it lies in it."""
        with self._plainly():
            return Path(self._artifact(version).download(root=str(folder)))

    def set_alias(self, version: Version, alias: str) -> None:
        """Move an alias to a version; ``latest`` is the newest by itself."""
        if alias == LATEST:
            return
        with self._plainly():
            for one in self._api.artifacts(TYPE, version.name):
                if alias in one.aliases and _number(one) != version.number:
                    one.aliases.remove(alias)
                    one.save()
            artifact = self._artifact(version)
            if alias not in artifact.aliases:
                artifact.aliases.append(alias)
                artifact.save()

    def set_tag(self, version: Version, key: str, text: str) -> None:
        """Set a tag of a version."""
        with self._plainly():
            artifact = self._artifact(version)
            artifact.metadata = {**artifact.metadata, key: text}
            artifact.save()

    def remove(self, version: Version) -> None:
        """Remove a version that bears no alias."""
        with self._plainly():
            self._artifact(version).delete()

    def _artifact(self, version: Version) -> Any:
        return self._api.artifact(f"{version.name}:v{version.number}", type=TYPE)

    def _plainly(self) -> AbstractContextManager[None]:
        return plainly(self.where)


def _version(name: str, artifact: Any) -> Version:
    created = datetime.fromisoformat(artifact.created_at.replace("Z", "+00:00"))
    told = {str(key): str(text) for key, text in (artifact.metadata or {}).items()}
    stamp = created.replace(tzinfo=created.tzinfo or UTC).timestamp()
    return Version(name, _number(artifact), tuple(sorted(artifact.aliases)), told, stamp)


def _number(artifact: Any) -> int:
    return int(artifact.version.removeprefix("v"))
