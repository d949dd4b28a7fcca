"""What a pipeline is: a name, and one config for each of the two stages that train."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from booster_ray.config import PRESETS, SHIPPED, Config, ConfigError, Sweep, load
from booster_ray.config.errors import choices, hint
from booster_ray.config.experiments import KEY
from booster_ray.store.durable import replace_text
from booster_ray.store.files import CONFIG, SWEEP
from booster_ray.store.folder import mirror_of, storage_path
from booster_ray.store.remote import RemoteFolder, is_remote

PIPELINES = PRESETS / "pipelines"
"""Folder, under the current one, where bare names of pipelines are looked up first."""
STAGES = ("setup", "pretrain", "convert", "finetune", "submit")
TRAINED = ("pretrain", "finetune")
"""Stages that train; each has a config."""
SHARED = ("storage", "models.registry", "models.uri", "models.name", "tracking.mlflow.uri")
"""Settings in which both configs must agree, or one stage would not find what the other made."""
INHERITED = (
    "control", "sac.actor_hidden", "sac.activation", "sac.layer_norm", "sac.normalize_observations",
)  # fmt: skip
"""Settings that a finetuned policy has from the one that it began with."""
OWN = ("stage", "start_from", "base")
"""Settings that the pipeline gives."""


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline."""

    name: str
    sweeps: Mapping[str, Sweep]
    """Stage that trains -> its config, which may search; their runs are called NAME-STAGE."""

    def config(self, stage: str) -> Config:
        """The base config of a stage; that of a stage that does not train is pretraining's."""
        return self.sweeps[stage if stage in TRAINED else "pretrain"].base()


def read(path: str, overrides: Iterable[str] = ()) -> Pipeline:
    """A folder with pretrain.yaml and finetune.yaml, or one config for both stages.

    Args:
        path: of either; a bare name is looked up in ``tune_configs/pipelines``, then among the
            presets.
        overrides: ``key=value`` for both stages, ``pretrain.key=value`` for one; ``name`` is the
            pipeline's.

    Raises:
        ConfigError: a config is refused, or the two do not fit together.
    """
    named_so = [at / path for at in (PIPELINES, SHIPPED / "pipelines") if (at / path).is_dir()]
    folder = named_so[0] if named_so and Path(path).name == path else path
    named, given = None, list(overrides)
    for text in [one for one in given if one.partition("=")[0].strip() == "name"]:
        named = text.partition("=")[2].strip()
        given.remove(text)
    found = {}
    for stage in TRAINED:
        file = Path(folder) / f"{stage}.yaml" if Path(folder).is_dir() else Path(folder)
        found[stage] = load(file if Path(folder).is_dir() else path, of_stage(stage, given))
        plain = file.parent.resolve().name if Path(folder).is_dir() else found[stage].base().name
        named = named or plain
    return _checked(named or "", found)


def of_stage(stage: str, overrides: Iterable[str]) -> list[str]:
    """The overrides that mean a stage, as its config has them.

    Raises:
        ConfigError: one is of a setting that the pipeline gives.
    """
    found = []
    for text in overrides:
        first, _, rest = text.partition(".")
        if first.strip() in TRAINED:
            if first.strip() != stage:
                continue
            text = rest
        if (key := text.partition("=")[0].strip()) in (*OWN, "name"):
            raise ConfigError("command line", key, "is given by the pipeline, expected no override")
        found.append(text)
    return found


def _checked(name: str, found: Mapping[str, Sweep]) -> Pipeline:
    sweeps = {}
    for stage, sweep in found.items():
        if sweep.experiments:
            text = "are no stage of a pipeline, which makes one policy; expected a search"
            raise ConfigError(sweep.source, KEY, text)
        raw = {key: value for key, value in sweep.raw.items() if key != "start_from"}
        raw |= {"name": f"{name}-{stage}", "stage": stage}
        sweeps[stage] = Sweep.from_raw(raw, sweep.source)
    before, after = (sweeps[stage].base().to_dict() for stage in TRAINED)
    searched = set(sweeps["pretrain"].space) | set(sweeps["finetune"].space)
    for key in (*SHARED, *INHERITED):
        ours, theirs = _at(after, key), _at(before, key)
        free = key in INHERITED and any(one.startswith(key) for one in searched)
        if ours != theirs and not free:
            text = f"is {_shown(ours)}, {sweeps['pretrain'].source} has {_shown(theirs)}"
            raise ConfigError(sweeps["finetune"].source, key, f"{text}, expected the same")
    if before["models"]["registry"] == "none":
        text = "is none, expected mlflow or wandb: stages find their input there"
        raise ConfigError(sweeps["pretrain"].source, "models.registry", text)
    _check_registry(sweeps["pretrain"])
    return Pipeline(name, sweeps)


def _check_registry(sweep: Sweep) -> None:
    """Refuse a registry in which the machines of a fleet would not find each other's models."""
    config = sweep.base()
    given = config.tracking.mlflow.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if config.models.registry == "mlflow" and is_remote(config.storage) and not given:
        text = (
            f"is null: the registry would stay on this machine while runs are in {config.storage}, "
            "expected a server's address (or MLFLOW_TRACKING_URI)"
        )
        raise ConfigError(sweep.source, "tracking.mlflow.uri", text)


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _shown(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else f"'{value}'"


# -- in storage ------------------------------------------------------------------------------


class Folder:
    """A pipeline's folder in its storage: its configs, and what its stages have finished.

    Args:
        storage: as configs name it.
        name: of the pipeline.

    Raises:
        StorageError: here and from every method, when the storage cannot be used.
    """

    def __init__(self, storage: str, name: str) -> None:
        self.storage, self.name = storage, name
        self.path = storage_path(storage).absolute() / name
        self._mirror = mirror_of(Config(name=name, storage=storage), self.path)

    def begin(self, pipeline: Pipeline) -> None:
        """Keep the pipeline's configs; if it has begun, see that they are the same.

        Raises:
            ConfigError: the name is taken, or the folder cannot be made.
        """
        source = pipeline.sweeps["pretrain"].source
        if any((self.path / marker).exists() for marker in (SWEEP, CONFIG)):
            text = f"a run '{self.name}' exists in {self.storage}; choose another with name=…"
            raise ConfigError(source, "name", text)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot write {self.path}: {error.strerror}"
            raise ConfigError(source, "storage", text) from None
        for stage, sweep in pipeline.sweeps.items():
            file, complete = self.definition(stage), sweep.complete()
            if self._fetched(file):
                if (key := _difference(load(file).complete().raw, complete.raw)) is not None:
                    text = (
                        f"differs from pipeline '{self.name}' in {self.storage}; go on with "
                        f"--resume {self.name}, or choose another name with name=…"
                    )
                    raise ConfigError(sweep.source, key, text)
            else:
                replace_text(file, complete.to_yaml())
                self._publish(file)

    def reopen(self) -> Pipeline:
        """The pipeline that was begun here.

        Raises:
            ConfigError: there is none; the message lists those there are.
        """
        if not all(self._fetched(self.definition(stage)) for stage in TRAINED):
            names = self._pipelines()
            there = f"expected {choices(names)}{hint(self.name, names)}" if names else "none is"
            text = f"no pipeline '{self.name}' in {self.storage}, {there}"
            raise ConfigError("command line", "--resume", text)
        return _checked(self.name, {stage: load(self.definition(stage)) for stage in TRAINED})

    def definition(self, stage: str) -> Path:
        """File of a stage's config."""
        return self.path / f"{stage}.yaml"

    def done(self, stage: str) -> dict[str, Any] | None:
        """What a stage wrote when it had finished; None: it has not."""
        file = self.path / f"{stage}.json"
        if not self._fetched(file):
            return None
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return found

    def finish(self, stage: str, facts: Mapping[str, Any]) -> None:
        """Say that a stage has finished, and what it made."""
        replace_text(self.path / f"{stage}.json", json.dumps({"stage": stage, **facts}, indent=1))
        self._publish(self.path / f"{stage}.json")

    def publish_all(self, folder: Path) -> None:
        """Copy a folder below this one to remote storage; local storage has it."""
        for file in sorted(folder.rglob("*")) if self._mirror else ():
            if file.is_file():
                self._publish(file)

    def _publish(self, file: Path) -> None:
        if self._mirror:
            self._mirror.push_file(file, file.relative_to(self.path).as_posix())

    def _fetched(self, file: Path) -> bool:
        """Whether a file is here, or could be brought here."""
        if file.is_file() or self._mirror is None:
            return file.is_file()
        return self._mirror.pull_file(file.relative_to(self.path).as_posix(), file)

    def _pipelines(self) -> list[str]:
        here = {p.parent.name for p in self.path.parent.glob("*/finetune.yaml")}
        if is_remote(self.storage):
            there = RemoteFolder(self.storage)
            folders = [name for name, size in there.names().items() if size is None]
            here |= {name for name in folders if "finetune.yaml" in there.names(name)}
        return sorted(here)


def _difference(before: Any, after: Any, key: str = "") -> str | None:
    """The first setting in which two trees differ; None: they are the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            below = f"{key}.{name}" if key else name
            found = _difference(before.get(name), after.get(name), below)
            if found is not None:
                return found
        return None
    return None if json.dumps(before) == json.dumps(after) else key
