"""The image's files: linted, locked with hashes, one CUDA. It cannot be built here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import driving
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BIN = Path(sys.executable).parent
LOCK = driving.ROOT / "requirements.lock"
OTHERWISE = re.compile(r"torch|triton|nvidia-.*-cu12")
"""Where the image differs from constraints.txt: see cluster/image/lock."""


def locked() -> dict[str, tuple[str, int]]:
    """Package to its version and the number of its hashes."""
    found: dict[str, tuple[str, int]] = {}
    for entry in re.split(r"\n(?=\S)", LOCK.read_text()):
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", entry):
            found[canonicalize_name(match[1])] = match[2], entry.count("--hash=sha256:")
    return found


def test_the_dockerfile_passes_its_linter() -> None:
    done = subprocess.run(
        [BIN / "hadolint", "--no-color", "Dockerfile"],
        cwd=driving.ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


@pytest.mark.parametrize("section", ["dependencies", "cuda"])
def test_the_lock_holds_what_the_project_asks_for(section: str) -> None:
    project = tomllib.loads((driving.ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"]
    if section != "dependencies":
        wanted = project["optional-dependencies"][section]
    found = locked()
    for requirement in map(Requirement, wanted):
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (str(requirement), version)


def test_the_lock_is_the_constraints_with_hashes() -> None:
    found = locked()
    assert len(found) > 100 and all(hashes for _, hashes in found.values())
    lines = (driving.ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    differ = {
        name: (version, pins[name])
        for name, (version, _) in found.items()
        if name in pins and pins[name] != version and not OTHERWISE.fullmatch(name)
    }
    assert differ == {}
    text = LOCK.read_text()
    assert "://" not in text and "--index-url" not in text  # from whatever registry is configured


def test_the_image_has_one_cuda() -> None:
    """Packages of CUDA 12 and 13 install files of the same names over one another."""
    found = locked()
    assert "nvidia-cudnn-cu12" in found
    assert [name for name in found if re.fullmatch(r"nvidia-.*-cu13|nvidia-cublas", name)] == []


def test_no_code_is_in_the_image() -> None:
    lines = (driving.ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[-2] for line in lines if line.startswith(("COPY", "ADD"))]
    assert copied == ["requirements.lock", "cluster/image/healthcheck"]
    kept = (driving.ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in kept if line.startswith("!")) == sorted(copied)
