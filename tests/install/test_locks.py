"""The locked sets: whole, within their ranges, one CUDA each."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest
from install import locks

SETS = {
    "cuda12": ["dependencies", "cuda12"],
    "cuda13": ["dependencies", "cuda13"],
    "cpu": ["dependencies", "dev", "view", "build"],
}
CPU_AND_CUDA = ("cuda12", "cuda13", "cpu", "torch-cuda", "pip")
OF_TORCH = {"cuda12": {"torch"}}
"""Where a set differs from constraints.txt; CUDA's own packages are not pinned there."""


def versions(name: str) -> dict[str, str]:
    return {one: pin.version for one, pin in locks.read(locks.FOLDER / f"{name}.lock").items()}


@pytest.mark.parametrize("name", CPU_AND_CUDA)
def test_a_set_has_one_cuda(name: str) -> None:
    assert locks.faults(versions(name)) == []


def test_two_cudas_over_one_another_are_seen() -> None:
    """What jax[cuda12] and a torch built with CUDA 13 bring together."""
    mixed = {"jax-cuda12-plugin": "0.9.2", "nvidia-cudnn-cu12": "9.28.0.42", "torch": "2.13.0"}
    assert locks.faults(mixed) == []
    found = locks.faults({**mixed, "nvidia-cublas": "13.1.1.3", "nvidia-cudnn-cu13": "9.20.0.48"})
    assert found == [
        "CUDA 12: jax-cuda12-plugin, nvidia-cudnn-cu12",
        "CUDA 13: nvidia-cublas, nvidia-cudnn-cu13",
        "nvidia/cudnn: nvidia-cudnn-cu12, nvidia-cudnn-cu13",
    ]


@pytest.mark.parametrize(("name", "sections"), SETS.items())
def test_a_set_holds_what_the_project_asks_for(name: str, sections: list[str]) -> None:
    found = versions(name)
    if name == "cpu":  # torch comes by its pin alone: requirements/install.py says why
        assert "torch" not in found and locks.FOLDER.joinpath("install.py").exists()
        found["torch"] = locks.read(locks.ROOT / "constraints.txt")["torch"].version
    wanted = locks.project()
    for requirement in (one for section in sections for one in wanted[section]):
        version = found[requirement.name.lower()]
        assert requirement.specifier.contains(version), (str(requirement), version)


@pytest.mark.parametrize("name", CPU_AND_CUDA)
def test_a_set_is_the_constraints_with_hashes(name: str) -> None:
    file = locks.FOLDER / f"{name}.lock"
    found, pins = locks.read(file), locks.read(locks.ROOT / "constraints.txt")
    assert found and all(pin.hashes for pin in found.values())
    both = found.keys() & pins.keys() - OF_TORCH.get(name, set())
    assert {one: found[one].version for one in both} == {one: pins[one].version for one in both}
    assert "://" not in file.read_text()  # from whatever registry is configured


def test_every_package_of_a_cpu_is_pinned_by_the_constraints() -> None:
    found, pins = locks.read(locks.FOLDER / "cpu.lock"), locks.read(locks.ROOT / "constraints.txt")
    here = {one for one, pin in found.items() if pin.marker is None or pin.marker.evaluate()}
    assert here - pins.keys() == set()


@pytest.mark.parametrize("name", ["cuda12", "cuda13"])
def test_the_parts_of_jax_are_of_one_version(name: str) -> None:
    found = versions(name)
    parts = ["jax", "jaxlib", f"jax-{name}-plugin", f"jax-{name}-pjrt"]
    assert len({found[part] for part in parts}) == 1
    assert {"nvidia-" + part + name[4:] for part in ("cudnn-cu", "nccl-cu")} <= found.keys()


def test_no_torch_fits_both_extras() -> None:
    """So that no resolver can take jax of one CUDA and torch of the other."""
    wanted = locks.project()
    torch = {
        name: next(one for one in wanted[name] if one.name == "torch").specifier
        for name in ("cuda12", "cuda13")
    }
    for version in ("2.8.0", "2.10.0", "2.10.1", "2.11.0", "2.13.0"):
        fitting = [name for name, range_ in torch.items() if range_.contains(version)]
        assert len(fitting) == 1, (version, fitting)


def test_a_cpu_gets_cuda_only_with_a_torch_that_needs_it() -> None:
    cpu, cuda, gpu = versions("cpu"), versions("torch-cuda"), versions("cuda13")
    assert [one for one, version in cpu.items() if locks.cuda_of(one, version)] == []
    assert not {"torch", "triton"} & cpu.keys() and not cpu.keys() & cuda.keys()
    assert "nvidia-cudnn-cu13" in cuda and "torch" not in cuda
    assert cuda == {one: gpu[one] for one in cuda}  # what the GPU's set has of it


def test_what_is_installed_is_what_is_locked() -> None:
    here = {
        one: pin.version
        for one, pin in locks.read(locks.FOLDER / "cpu.lock").items()
        if pin.marker is None or pin.marker.evaluate()
    }
    assert {one: metadata.version(one) for one in here} == here


def test_what_is_installed_lacks_nothing() -> None:
    """No resolver has looked after that."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
