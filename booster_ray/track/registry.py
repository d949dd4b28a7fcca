"""Where versions of models are kept: what a registry promises, how versions are named and found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from booster_ray.config import Config
from booster_ray.config.errors import ConfigError, choices, hint
from booster_ray.config.paths import expanded
from booster_ray.store import gate_results
from booster_ray.store.files import GATES
from booster_ray.store.model_folder import CHECKPOINT
from booster_ray.track.versions import ALIASES, BEST, CANDIDATES, CHAMPION, LATEST, Standing

SHA256, PROMOTED, SCORES = "sha256", "promoted", "scores"
"""Tags: checksum of a version's ``model.json``; when it became champion, as ``1,4``: first and
fourth of all; its scores as JSON."""

_OURS = {LATEST, BEST, *CANDIDATES.values()}


class RegistryError(ConfigError):
    """What was asked of a registry cannot be had: one line that names the place and says why."""


@contextmanager
def plainly(where: str, shown: Callable[[str], str] = str) -> Iterator[None]:
    """Whatever a registry's package raises, as a RegistryError of one line.

    Args:
        where: the registry.
        shown: what of the line may be seen.
    """
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:  # the errors of such packages share no base class
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RegistryError(where, shown(lines[0])[:300]) from error


class Version(NamedTuple):
    """One version of a model."""

    name: str
    number: int
    aliases: tuple[str, ...]
    """With ``latest``."""
    tags: Mapping[str, str]
    created: float
    """Unix time, s."""

    @property
    def promotions(self) -> list[int]:
        """Places in the order of all promotions of its model, ascending."""
        return [int(place) for place in self.tags.get(PROMOTED, "").split(",") if place]

    @property
    def scores(self) -> dict[str, float]:
        """Of its evaluation; empty where they are not told."""
        try:
            told = json.loads(self.tags.get(SCORES, "{}"))
            return {str(name): float(number) for name, number in told.items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def kept(self) -> Standing:
        """What :mod:`booster_ray.track.versions` goes by."""
        held = bool(self.promotions) or bool(set(self.aliases) - _OURS)
        stage, digest = self.tags.get("stage", ""), self.tags.get("policy", "")
        return Standing(self.number, stage, digest, self.scores, held)


class Registry(Protocol):
    """Versions of models; every method raises RegistryError where it cannot do what it says."""

    where: str
    """For messages: the registry's address."""

    def names(self) -> list[str]:
        """Names of all models."""
        ...

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, the newest first; empty where there is no such model."""
        ...

    def add(self, name: str, directory: Path, about: Mapping[str, Any]) -> int:
        """Keep a packed model (see :mod:`booster_ray.store.model_folder`); returns its number."""
        ...

    def download(self, version: Version, folder: Path) -> Path:
        """Bring what :meth:`add` was given into an empty folder; returns where it lies in it."""
        ...

    def set_alias(self, version: Version, alias: str) -> None:
        """Move an alias to a version."""
        ...

    def set_tag(self, version: Version, key: str, text: str) -> None:
        """Set a tag of a version."""
        ...

    def remove(self, version: Version) -> None:
        """Remove a version that bears no alias."""
        ...


class Reference(NamedTuple):
    """A version as a person names it: by number or by alias."""

    kind: str
    """``models`` (MLflow) or ``wandb``."""
    name: str
    """With entity and project in W&B."""
    number: int | None = None
    alias: str | None = None
    sha256: str = ""
    """Checksum that it must have, or the beginning of it."""

    def __str__(self) -> str:
        if self.kind == "wandb":
            which = f":v{self.number}" if self.number is not None else f":{self.alias}"
        else:
            which = f"/{self.number}" if self.number is not None else f"@{self.alias}"
        start = "wandb:" if self.kind == "wandb" else "models:/"
        return f"{start}{self.name}{which}{'#' + self.sha256 if self.sha256 else ''}"


_FORMS = {
    "models": re.compile(
        r"models:/(?P<name>[^/:@#]+)(/(?P<number>\d+)|[/@](?P<alias>[A-Za-z][\w.-]*))"
        r"(#(?P<sha256>[0-9a-f]{12,64}))?"
    ),
    "wandb": re.compile(
        r"wandb:(?P<name>[^/:@#]+/[^/:@#]+/[^/:@#]+):(v(?P<number>\d+)|(?P<alias>[A-Za-z][\w.-]*))"
        r"(#(?P<sha256>[0-9a-f]{12,64}))?"
    ),
}
_EXPECTED = {
    "models": "models:/NAME@ALIAS or models:/NAME/VERSION",
    "wandb": "wandb:ENTITY/PROJECT/NAME:ALIAS or …:vVERSION",
}


def is_reference(text: str) -> bool:
    """Whether a text names a version in a registry, and not a path."""
    return text.startswith(("models:", "wandb:"))


def parse(text: str, place: str = "command line") -> Reference:
    """What a text names, such as ``models:/booster_t1@champion`` or ``wandb:me/soccer/t1:v3``.

    Raises:
        RegistryError: it is of no such form.
    """
    kind = text.partition(":")[0]
    if kind not in _FORMS:
        raise RegistryError(place, f"{text}: expected {choices(_EXPECTED.values())}")
    match = _FORMS[kind].fullmatch(text)
    if match is None:
        raise RegistryError(place, f"{text}: expected {_EXPECTED[kind]}")
    number = int(match["number"]) if match["number"] else None
    return Reference(kind, match["name"], number, match["alias"], match["sha256"] or "")


def find(registry: Registry, reference: Reference, place: str = "command line") -> Version:
    """The version that a reference names now.

    Raises:
        RegistryError: there is no such model, version or alias, or the registry is out of reach.
    """
    versions = registry.versions(reference.name)
    if not versions:
        names = registry.names()
        known = f"it has {choices(names[:8])}" if names else "it has none"
        text = f"no model '{reference.name}' in {registry.where}, {known}"
        raise RegistryError(place, text + hint(reference.name, names))
    for version in versions:
        if version.number == reference.number or reference.alias in version.aliases:
            return version
    if reference.number is not None:
        numbers = choices(str(v.number) for v in versions[:8])
        raise RegistryError(
            place,
            f"no version {reference.number} of {reference.name} in {registry.where}, "
            f"the newest are {numbers}",
        )
    aliases = sorted({alias for v in versions for alias in v.aliases})
    advice = hint(reference.alias, [*aliases, *ALIASES])
    raise RegistryError(
        place,
        f"{reference.name} has no alias '{reference.alias}' in {registry.where}, "
        f"it has {choices(aliases)}{advice}",
    )


def with_latest(versions: Sequence[Version]) -> list[Version]:
    """Versions, newest first, the first of which is ``latest``."""
    ranked = sorted(versions, key=lambda v: v.number, reverse=True)
    return [
        v._replace(aliases=tuple(a for a in v.aliases if a != LATEST) + ((LATEST,) * (i == 0)))
        for i, v in enumerate(ranked)
    ]


DATABRICKS = {"databricks": "databricks-uc"}
"""Registry of a tracking server, where it is not the server itself."""


def open_registry(config: Config, reference: Reference | None = None) -> Registry:
    """Where a reference's version is; without one, where the config's versions go.

    Nothing is asked of it yet.
    """
    kind = reference.kind if reference else config.models.registry
    if kind == "wandb":
        from booster_ray.track.registry_wandb import WandbRegistry

        name = reference.name if reference else model_name(config)
        return WandbRegistry(name.rpartition("/")[0])
    from booster_ray.track.registry_mlflow import MlflowRegistry
    from booster_ray.track.where import mlflow_uri

    tracking = mlflow_uri(config)
    return MlflowRegistry(
        tracking, registry_uri(config, tracking), config.tracking.mlflow.experiment
    )


def model_name(config: Config) -> str:
    """Name of the registered model, as the registry of the config has it."""
    if config.models.registry != "wandb":
        return config.models.name
    wandb = config.tracking.wandb
    return f"{wandb.entity or default_entity()}/{wandb.project}/{config.models.name}"


def registry_uri(config: Config, tracking: str) -> str:
    """Address of MLflow's registry of models, ``${NAME}`` replaced from the environment.

    Raises:
        ConfigError: a variable in it is not set.
    """
    if given := config.models.uri:
        return expanded(given, "models.uri")
    if given := os.environ.get("MLFLOW_REGISTRY_URI"):
        return expanded(given, "MLFLOW_REGISTRY_URI")
    return DATABRICKS.get(tracking, tracking)


def default_entity() -> str:
    """W&B's user or team of the key that is found.

    Raises:
        RegistryError: there is no key, or the server is out of reach.
    """
    from booster_ray.track.registry_wandb import WandbRegistry

    return WandbRegistry("").entity()


GATE = "gate_3"
"""Tag of the gate's verdict."""


def check_gate(version: Version, folder: Path, gates: Path | None = None) -> None:
    """Refuse a version whose very checkpoint is not known to have passed gate 3.

    Args:
        version: as the registry tells it.
        folder: its files, verified.
        gates: a folder that holds ``gates.json``, where the gates were run after the version was
            made; None: the version's own.

    Raises:
        RegistryError: the gate was not run or failed, or its verdict is of another checkpoint.
    """
    who, checkpoint = f"{version.name} version {version.number}", folder / CHECKPOINT
    place = gates or folder
    told = gate_results.read(place)
    if told is None or "3" not in told["gates"]:
        if gates is not None:
            raise RegistryError(str(place / GATES), "tells nothing of gate 3")
        claim = "; its tag says otherwise" if version.tags.get(GATE) == "passed" else ""
        raise RegistryError(
            who,
            f"was not through gate 3{claim}, expected a version that passed it; run "
            f"`python -m booster_ray.gates {checkpoint} --output DIR`, then promote with "
            "--gates DIR",
        )
    passed = gate_results.stored(place, checkpoint, 3)
    if passed is None:
        text = f"is of another checkpoint than {who}"
        raise RegistryError(str(place / GATES), text)
    if not passed:
        raise RegistryError(who, "failed gate 3, expected a version that passed it")
    if gates is None and version.tags.get(GATE) == "failed":
        raise RegistryError(who, f"passed gate 3 by its files, but its tag {GATE} says failed")


def promote(registry: Registry, version: Version) -> Version | None:
    """Make a version champion that :func:`check_gate` has let through.

    Returns:
        The champion before; the version itself, if it is champion already.
    """
    versions = registry.versions(version.name)
    before = champion(versions)
    if before is not None and before.number == version.number:
        return before
    place = 1 + max((p for v in versions for p in v.promotions), default=0)
    registry.set_tag(version, GATE, "passed")
    # First the number: a version that has one is not removed, with or without the alias.
    registry.set_tag(version, PROMOTED, _listed([*version.promotions, place]))
    registry.set_alias(version, CHAMPION)
    return before


def previous(registry: Registry, name: str) -> tuple[Version, Version]:
    """The champion, and the version that was champion before it.

    Raises:
        RegistryError: there is no champion, or none before it.
    """
    versions = registry.versions(name)
    now = champion(versions)
    if now is None:
        raise RegistryError(name, f"has no champion in {registry.where}, nothing to roll back")
    last = max(now.promotions, default=0)
    earlier = [(p, v) for v in versions for p in v.promotions if p < last]
    if not earlier:
        text = f"version {now.number} is the first champion, there is none before it"
        raise RegistryError(name, text)
    return now, max(earlier, key=lambda pair: pair[0])[1]


def rollback(registry: Registry, now: Version, before: Version) -> None:
    """Take the last promotion back; arguments as :func:`previous` returns them."""
    registry.set_alias(before, CHAMPION)
    kept = [place for place in now.promotions if place < max(now.promotions)]
    registry.set_tag(now, PROMOTED, _listed(kept))


def champion(versions: list[Version]) -> Version | None:
    """The version that bears the alias."""
    return next((v for v in versions if CHAMPION in v.aliases), None)


def _listed(places: list[int]) -> str:
    return ",".join(str(place) for place in sorted(places))
