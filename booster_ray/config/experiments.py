"""Sweeps whose trials are listed and not drawn: named experiments, and grids of settings.

An experiment is a name and what it changes in the config around it. A trial is one experiment at
one point of its grid; which one is decided by the trial's number alone, see :func:`points`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from booster_ray.config.errors import Problem, show
from booster_ray.config.space import Choice, Distribution
from booster_ray.config.trees import Key, Tree, leaves, sets

KEY = "experiments"
"""Where a config lists them."""
EXPERIMENT = "experiment"
"""Of a trial's parameters the one that names its experiment."""
MOST = 10_000
"""Trials that a config may list."""
FIXED = (
    "name", "storage", "trainer.", "tune.", "tracking.", "models.", "monitor.", "runtime.",
)  # fmt: skip
"""Settings that hold for a whole sweep: neither searched nor changed by an experiment."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}")


class Experiment(NamedTuple):
    """One of them, checked."""

    overrides: Tree
    """What it sets, in the place of what the config around it says."""
    space: dict[str, Distribution]
    """What is searched in it, by dotted key; grids."""


def by_name(raw: Any) -> Tree:
    """The overrides of each experiment by its name, from a list or a mapping of them.

    Raises Problem, whose path starts at the config.
    """
    if not isinstance(raw, (dict, list)) or not raw:
        text = "expected a list of experiments, each with a name, or a mapping by name"
        raise Problem((KEY,), f"is {'empty' if raw in ([], {}) else show(raw)}, {text}")
    if isinstance(raw, list):
        return _from_list(raw)
    return {_name(name, (KEY, name)): _overrides(value, (KEY, name)) for name, value in raw.items()}


def _from_list(raw: list[Any]) -> Tree:
    found: Tree = {}
    places: dict[str, int] = {}
    for i, item in enumerate(raw):
        at = (KEY, str(i))
        if not isinstance(item, dict):
            raise Problem(at, f"is {show(item)}, expected a mapping with a name")
        if "name" not in item:
            raise Problem(at, "has no name, expected name: NAME beside what it sets")
        name = _name(item["name"], (*at, "name"))
        if name in found:
            text = f"is '{name}' as that of {KEY}.{places[name]}, expected each name once"
            raise Problem((*at, "name"), text)
        places[name] = i
        own = {key: value for key, value in item.items() if key != "name"}
        found[name] = _overrides(own, (KEY, name))
    return found


def _name(raw: Any, place: Key) -> str:
    if not isinstance(raw, str) or not _NAME.fullmatch(raw):
        quoted = "" if isinstance(raw, (str, dict, list)) else f" (in quotes: '{show(raw)}')"
        raise Problem(
            place, f"is {show(raw)}, expected a name of letters, digits, . _ + = -{quoted}"
        )
    return raw


def _overrides(raw: Any, place: Key) -> Tree:
    if raw is None:  # `baseline:` alone sets nothing
        return {}
    if not isinstance(raw, dict):
        raise Problem(place, f"is {show(raw)}, expected a mapping of what it sets")
    if KEY in raw:
        raise Problem((*place, KEY), "is in an experiment itself, expected settings")
    return raw


# --- checks ---


def fixed(name: str, overrides: Tree) -> list[Problem]:
    """What an experiment sets that is the whole sweep's."""
    begins = tuple(f"{key.removesuffix('.')}." for key in FIXED)
    found = [key for key, _ in leaves(overrides) if f"{'.'.join(key)}.".startswith(begins)]
    text = "is the same for the whole sweep, expected beside experiments, not in one"
    return [Problem((KEY, name, *key), text) for key in found]


def inside(problem: Problem, name: str, overrides: Tree) -> Problem:
    """A problem of the config with an experiment in it, blamed on what the experiment sets."""

    def place(key: Key) -> Key:
        return (KEY, name, *key)

    own = tuple(place(key) for key in problem.either if sets(overrides, key))
    return Problem(own[0] if own else place(problem.path), problem.text, own)


def not_grids(found: Mapping[Key, Distribution], what: str) -> list[Problem]:
    """Searches from which a sampler would draw, in a sweep whose trials are listed."""
    return [
        Problem(
            (*key, "search"),
            f"is {search.kind} beside {what}, whose trials are listed and not drawn; expected "
            "grid, or one value",
        )
        for key, search in found.items()
        if not is_grid(search)
    ]


def is_grid(found: Distribution) -> bool:
    """Whether each of its values is tried."""
    return isinstance(found, Choice) and found.grid


# --- what there is to run ---


def count(spaces: Iterable[Mapping[str, Distribution]]) -> int:
    """Trials of experiments that search these grids; of one, where there are no experiments."""
    return sum(math.prod(len(search.ends()) for search in space.values()) for space in spaces)


def points(
    experiments: Mapping[str, Experiment], space: Mapping[str, Distribution]
) -> tuple[dict[str, Any], ...]:
    """The parameters of every trial in turn, the last searched setting changing fastest.

    Args:
        experiments: by name; empty: a grid alone.
        space: what is searched, without experiments.
    """
    if experiments:
        return tuple(
            {EXPERIMENT: name, **point}
            for name, one in experiments.items()
            for point in _grid(one.space)
        )
    return tuple(_grid(space))


def _grid(space: Mapping[str, Distribution]) -> Iterable[dict[str, Any]]:
    values = [search.ends().values() for search in space.values()]
    return (dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values))


def union(experiments: Mapping[str, Experiment]) -> dict[str, Distribution]:
    """What trials differ in: the experiment, and every setting that some of them search."""
    found: dict[str, dict[str, Any]] = {}
    for one in experiments.values():
        for key, search in one.space.items():
            values = found.setdefault(key, {})
            values |= {repr(value): value for value in search.ends().values()}
    grids = {key: Choice(tuple(found[key].values()), grid=True) for key in sorted(found)}
    return {EXPERIMENT: Choice(tuple(experiments), grid=True), **grids}
