"""What a job takes along: this package and one config, as a zip file of some hundred kB.

An allow-list, not a list of what to leave out: data, results, checkpoints, `.git` and virtual
environments never travel, however they are called. What the code needs is on the cluster (its
image), or is installed there (`--pip`, `--uv`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from booster_ray.config import ConfigError
from booster_ray.config.load import PRESETS

MB = 1e6
CONFIG = "submitted.yaml"
"""Name of the config in the package: complete, whatever files it was put together from."""
REQUIREMENTS = "submitted-requirements.txt"
LEFT_OUT = ("__pycache__", ".git", ".venv", "node_modules")
"""Folders that are left out of what is taken along."""
SHOWN = 5
"""Largest files that an error names."""


class Package(NamedTuple):
    """A zip file for a job's working directory."""

    path: Path
    files: int
    bytes: int
    """Of the zip file."""


def build(
    path: Path,
    config: str | None,
    include: Sequence[str] = (),
    requirements: Path | None = None,
    max_mb: float = 20.0,
) -> Package:
    """Write the package.

    Args:
        path: of the zip file.
        config: the complete config as YAML; None: the run is on the cluster already.
        include: files and folders below the current one that go along.
        requirements: what pip or uv shall install there.
        max_mb: limit of the zip file, MB.

    Raises:
        ConfigError: something to include is not there or outside this folder, the requirements
            cannot be read, or the package is larger than ``max_mb``.
    """
    files = _code() | _included(include)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            archive.write(file, name)
        if config is not None:
            archive.writestr(CONFIG, config)
        if requirements is not None:
            archive.writestr(REQUIREMENTS, _text(requirements))
        largest = sorted(archive.infolist(), key=lambda one: -one.compress_size)[:SHOWN]
        count = len(archive.infolist())
    size = path.stat().st_size
    if size > max_mb * MB:
        names = ", ".join(f"{one.filename} {one.compress_size / MB:.1f} MB" for one in largest)
        text = f"the job's files are {size / MB:.1f} MB, expected at most {max_mb:g}; the largest: "
        raise ConfigError("command line", "--include", text + names)
    return Package(path, count, size)


def _code() -> dict[str, Path]:
    """The installed package and the presets here, by their names in the package."""
    root = Path(__file__).parents[2]
    found = {f"{root.name}/{name}": file for name, file in _below(root)}
    presets = _below(PRESETS) if PRESETS.is_dir() else ()
    return found | {f"{PRESETS}/{name}": file for name, file in presets}


def _included(include: Sequence[str]) -> dict[str, Path]:
    here, found = Path.cwd().resolve(), {}
    for wanted in include:
        path = Path(wanted).resolve()
        if not path.exists():
            raise ConfigError("command line", "--include", f"{wanted}: no such file or folder")
        if here not in path.parents:
            text = f"{wanted} is not below the current folder, as jobs see it"
            raise ConfigError("command line", "--include", text)
        base = path.relative_to(here).as_posix()
        if path.is_file():
            found[base] = path
        else:
            found |= {f"{base}/{name}": file for name, file in _below(path)}
    return found


def _below(folder: Path) -> list[tuple[str, Path]]:
    """The files of a folder, with their names below it."""
    named = [(file.relative_to(folder), file) for file in folder.rglob("*") if file.is_file()]
    return [(n.as_posix(), file) for n, file in named if not set(n.parts) & set(LEFT_OUT)]


def _text(requirements: Path) -> str:
    try:
        return requirements.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError("command line", str(requirements), why) from None
