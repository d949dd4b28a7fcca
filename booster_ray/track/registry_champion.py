"""Who is champion: only a version that passed gate 3, and the one before can come back.

Each promotion is numbered; a version keeps the numbers of its own in the tag ``promoted``. The
champion is the version with the highest, and taking that away makes the one before it champion.
"""

from __future__ import annotations

from pathlib import Path

from booster_ray.store import gate_results
from booster_ray.store.model_folder import CHECKPOINT
from booster_ray.track.best import CHAMPION
from booster_ray.track.registry import PROMOTED, Registry, RegistryError, Version

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
