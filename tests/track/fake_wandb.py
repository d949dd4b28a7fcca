"""W&B's public interface over a folder: what would go over the network, and no more of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Artifact:
    """A logged artifact; changes count from :meth:`save` on, as there."""

    def __init__(self, server: Server, name: str, number: int, files: Path, of: Any) -> None:
        self._server, self.name, self._files = server, name, files
        self.version, self.created_at = f"v{number}", "2026-11-21T12:00:00Z"
        self.aliases: list[str] = []
        self.metadata = dict(of.metadata)
        self.description = of.description

    def save(self) -> None:
        kept = self._server.artifacts[self.name]
        for one in kept:
            if one.version == self.version:
                one.aliases, one.metadata = list(self.aliases), dict(self.metadata)

    def download(self, root: str) -> str:
        shutil.copytree(self._files, root, dirs_exist_ok=True)
        return root

    def delete(self) -> None:
        assert not self.aliases, "W&B refuses to delete what bears an alias"
        self._server.artifacts[self.name] = [
            one for one in self._server.artifacts[self.name] if one.version != self.version
        ]

    def wait(self) -> Artifact:
        return self

    def copy(self) -> Artifact:
        made = Artifact(self._server, self.name, int(self.version[1:]), self._files, self)
        made.aliases = list(self.aliases)
        return made


class Server:
    """What W&B holds, by ``entity/project/name``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts: dict[str, list[Artifact]] = {}
        self.runs: list[dict[str, Any]] = []

    def api(self, **_: Any) -> Api:
        return Api(self)

    @contextmanager
    def run(self, entity: str, project: str, **settings: Any) -> Iterator[Any]:
        self.runs.append({"entity": entity, "project": project, **settings})

        def log_artifact(artifact: Any) -> Artifact:
            name = f"{entity}/{project}/{artifact.name}"
            kept = self.artifacts.setdefault(name, [])
            files = self.folder / f"{artifact.name}-{len(kept)}"
            for path, entry in artifact.manifest.entries.items():
                target = files / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(entry.local_path, target)
            made = Artifact(self, name, len(kept), files, artifact)
            for one in kept:
                one.aliases = [alias for alias in one.aliases if alias != "latest"]
            made.aliases = ["latest"]
            kept.append(made)
            return made

        yield SimpleNamespace(log_artifact=log_artifact)


class Api:
    """The part of ``wandb.Api`` that is used."""

    default_entity = "me"

    def __init__(self, server: Server) -> None:
        self._server = server

    def artifact_collections(self, project_name: str, type_name: str) -> list[Any]:
        assert type_name == "model"
        names = [n for n in self._server.artifacts if n.rpartition("/")[0] == project_name]
        return [SimpleNamespace(name=name.rpartition("/")[2]) for name in names]

    def artifact_collection_exists(self, name: str, type: str) -> bool:
        assert type == "model"
        return name in self._server.artifacts

    def artifacts(self, type_name: str, name: str) -> list[Artifact]:
        assert type_name == "model"
        return [one.copy() for one in self._server.artifacts[name]]

    def artifact(self, name: str, type: str) -> Artifact:
        name, _, version = name.partition(":")
        return next(one.copy() for one in self._server.artifacts[name] if one.version == version)
