"""Which policies become versions, which bear which alias, and who is champion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from booster_ray.config.models import Models, value
from booster_ray.store import gate_results
from booster_ray.store.model_folder import CHECKPOINT
from booster_ray.track.registry import PROMOTED, Registry, RegistryError, Version

LATEST, BEST, CHAMPION = "latest", "best", "champion"
CANDIDATES = {"pretrain": "candidate-pretrain", "finetune": "candidate-finetuned"}
"""Alias of the best version of each stage."""
ALIASES = (LATEST, BEST, *CANDIDATES.values(), CHAMPION)


class Standing(NamedTuple):
    """What counts of a version."""

    version: int
    stage: str
    """That trained it."""
    digest: str
    """Tells one policy from another."""
    scores: Mapping[str, float]
    """Of its evaluation."""
    held: bool = False
    """Whether it must stay: it is or was the champion, or bears an alias that a person gave."""


class Changes(NamedTuple):
    """What follows from a new version."""

    aliases: dict[str, int]
    """All that the registry should hold, but ``champion``, which only promotion moves."""
    remove: list[int]
    """Versions to remove, once the aliases are as they should be."""


def due(before: int, now: int, cadence: int, every: int) -> bool:
    """Whether an ``every``-th checkpoint was made since ``before`` (all in env steps).

    Checkpoints are counted by their ``cadence``, so that a resumed run counts as one that was
    not stopped; those out of turn, before a stop, do not count. ``every`` 0: never.
    """
    if every < 1:
        return False
    period = cadence * every
    return now // period > before // period


def refusal(
    settings: Models, scores: Mapping[str, float], digest: str, kept: Iterable[Standing]
) -> str | None:
    """Why a policy does not become a version; None: it does."""
    for one in kept:
        if one.digest == digest:
            return f"it is version {one.version} already"
    if value(scores, settings.metric) is None:
        return f"it has no finite {settings.metric}"
    for metric, least in (
        ("score", settings.minimum_score),
        ("success", settings.minimum_success_rate),
    ):
        found = value(scores, metric)
        if least is not None and (found is None or found < least):
            told = "unknown" if found is None else f"{found:.3g}"
            return f"its {metric} {told} is below the minimum {least:g}"
    return None


def changes(settings: Models, kept: Sequence[Standing]) -> Changes:
    """Aliases and removals for a registry's versions, the newest among them."""
    aliases = {LATEST: max(one.version for one in kept)} if kept else {}
    for alias, stage in ((BEST, None), *((a, s) for s, a in CANDIDATES.items())):
        of_stage = [one for one in kept if stage in (None, one.stage)]
        if (found := _best(of_stage, settings.metric)) is not None:
            aliases[alias] = found
    newest = sorted((one.version for one in kept), reverse=True)[: settings.keep]
    stay = {*newest, *aliases.values()}
    remove = [one.version for one in kept if one.version not in stay and not one.held]
    return Changes(aliases, sorted(remove))


def _best(kept: Sequence[Standing], metric: str) -> int | None:
    """The version of the highest value, the earliest of equals."""
    known = [(found, one) for one in kept if (found := value(one.scores, metric)) is not None]
    if not known:
        return None
    return max(known, key=lambda pair: (pair[0], -pair[1].version))[1].version


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
            raise RegistryError(str(place / gate_results.GATES), "tells nothing of gate 3")
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
        raise RegistryError(str(place / gate_results.GATES), text)
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
