"""Which releases of the official package and of MuJoCo the game is known on.

The rules, the bounds of parity and the derived models were measured on these. Light to import: a
command asks before it loads or starts anything.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import NamedTuple


class VersionError(RuntimeError):
    """An installed package is missing or outside its known range; one line with the fix."""


class Known(NamedTuple):
    """A half-open range of releases of a package on the Python registry."""

    package: str
    least: str
    below: str
    why: str


KNOWN = (
    Known("sai-mujoco", "0.1.30", "0.1.31", "the release whose rules are reproduced here"),
    Known("mujoco", "3.4", "3.10", "from 3.10 on, sai_mujoco's mj_fullM calls fail"),
)
"""What sai-mujoco itself asks for is wider: it was released before the MuJoCo that breaks it."""


def check_versions() -> None:
    """Refuse an installation on which the game would differ or fail far from the cause.

    Raises:
        VersionError: a package of ``KNOWN`` is not installed, or not in its range.
    """
    for known in KNOWN:
        wanted = f"{known.package}>={known.least},<{known.below}"
        try:
            found = metadata.version(known.package)
        except metadata.PackageNotFoundError:
            raise VersionError(
                f"{known.package} is not installed; run: pip install '{wanted}'"
            ) from None
        if not _numbers(known.least) <= _numbers(found) < _numbers(known.below):
            raise VersionError(
                f"{known.package} is {found}, expected >={known.least},<{known.below} "
                f"({known.why}); run: pip install '{wanted}'"
            )


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version; what follows them (rc1, .dev0) does not count."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))
