"""Reads a locked set, and says what is wrong with the CUDA in it."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"


class Pin(NamedTuple):
    """One package of a locked set."""

    version: str
    marker: Marker | None
    hashes: int


def read(file: Path) -> dict[str, Pin]:
    """The packages of a locked set, or of constraints, by their canonical names."""
    found: dict[str, Pin] = {}
    for entry in re.split(r"\n(?=\S)", file.read_text(encoding="utf-8")):
        if entry.startswith("#"):
            continue
        requirement = Requirement(entry.split("\\")[0].strip())
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", entry
        hashes = entry.count("--hash=sha256:")
        found[canonicalize_name(requirement.name)] = Pin(
            specifier.version, requirement.marker, hashes
        )
    return found


def project() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for: ``dependencies``, ``build`` and every extra."""
    text = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {"dependencies": text["project"]["dependencies"]}
    wanted |= {"build": text["build-system"]["requires"]}
    wanted |= text["project"]["optional-dependencies"]
    return {name: [Requirement(one) for one in lines] for name, lines in wanted.items()}


def cuda_of(name: str, version: str) -> int | None:
    """The CUDA that a package is of; None: of none, or of any."""
    if suffix := re.fullmatch(r"(?:nvidia-.*-cu|jax-cuda)(\d+)(?:-plugin|-pjrt)?", name):
        return int(suffix[1])
    if name in ("cuda-toolkit", "cuda-bindings"):
        return int(version.split(".")[0])
    if name.startswith("nvidia-") and name != "nvidia-ml-py":
        return 13  # from 13 on the toolkit's own packages have no suffix
    return None


def faults(pins: dict[str, str]) -> list[str]:
    """Why a set of packages has more than one CUDA; empty: it has one, or none.

    Args:
        pins: canonical name to version.
    """
    cudas, folders = defaultdict(list), defaultdict(list)
    for name, version in sorted(pins.items()):
        if cuda := cuda_of(name, version):
            cudas[cuda].append(name)
        if part := re.fullmatch(r"nvidia-(.*)-cu\d+", name):
            folders[f"nvidia/{part[1].replace('-', '_')}"].append(name)
    several = [f"CUDA {cuda}: {', '.join(names)}" for cuda, names in sorted(cudas.items())]
    return [
        *(several if len(several) > 1 else []),
        *(f"{path}: {', '.join(names)}" for path, names in folders.items() if len(names) > 1),
    ]
