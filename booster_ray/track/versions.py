"""Which policies become versions, which of them bear which alias, and which are removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from booster_ray.config.models import Models, value

LATEST, BEST, CHAMPION = "latest", "best", "champion"
CANDIDATES = {
    "pretrain": "candidate-pretrain",
    "clone": "candidate-cloned",
    "finetune": "candidate-finetuned",
}
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
