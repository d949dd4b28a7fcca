"""What other packages add to tables of ours, by entry points in their metadata.

To know the names nothing of theirs is imported; what stands behind a name is imported when it is
used. What cannot be added is noted in :data:`PROBLEMS`, with which every config is refused: to
train on silently with another thing of the same name would be worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import Any

PROBLEMS: list[str] = []
"""One line each, with the package's name."""


@dataclass(frozen=True)
class Added:
    """A name that a package adds."""

    name: str
    place: str
    """``module:object``."""
    package: str
    version: str

    def load(self) -> Any:
        """The object, whose module is imported.

        Raises:
            Exception: whatever its module raises; AttributeError: it has no such object.
        """
        module, _, path = self.place.partition(":")
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return found


def added(group: str, what: str, taken: Iterable[str]) -> dict[str, Added]:
    """What packages add to a table, by its name there, in the order of names.

    Args:
        group: of entry points.
        what: an entry of the table is called, in problems.
        taken: our own names in it.
    """
    found: dict[str, Added] = {}
    ours = set(taken)
    for one in sorted(_entries(group), key=lambda one: (one.name, one.package)):
        said = f"package {one.package} adds the {what} '{one.name}'"
        if not one.name.isidentifier() or one.name.startswith("_"):
            PROBLEMS.append(f"{said}, expected a name of letters, digits and underscores")
        elif one.name in ours:
            PROBLEMS.append(f"{said}, which booster_ray has itself, expected another name")
        elif one.name in found:
            other = found[one.name].package
            PROBLEMS.append(f"{said} as package {other} does, expected one of the two")
        else:
            found[one.name] = one
    return found


_found = cache(metadata.entry_points)
"""Of all packages; to read them once takes some 20 ms."""


def _entries(group: str) -> tuple[Added, ...]:
    return tuple(
        Added(
            point.name,
            point.value,
            point.dist.name if point.dist else "?",
            point.dist.version if point.dist else "?",
        )
        for point in _found().select(group=group)
    )
