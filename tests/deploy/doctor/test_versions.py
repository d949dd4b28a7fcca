"""What the doctor says of versions: JAX's parts, one CUDA, and a driver that is new enough."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
from install import cuda_packages
from track.fake_nvml import Library

from booster_ray.config import load
from booster_ray.deploy.doctor import versions
from booster_ray.deploy.doctor.findings import Finding

KERNELS = {
    "of NVIDIA": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Aug 19 01:15:15 UTC 2023",
    "open": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs)",
}
COMPILER = "\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"


class Driver(Library):
    """NVML of a machine where the kernel tells nothing."""

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.54.15"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages hide those installed, none of CUDA in it, and no driver here."""
    real = versions.version

    def version(name: str) -> str | None:
        if not name.startswith(("jax-cuda", "nvidia-")):
            return real(name)
        stand_ins = metadata.distributions(name=name, path=[str(tmp_path)])
        return next((one.version for one in stand_ins), None)

    monkeypatch.setattr(versions, "version", version)
    monkeypatch.setattr(versions, "DRIVER", tmp_path / "driver")
    monkeypatch.setitem(sys.modules, "pynvml", Library(missing=True))
    monkeypatch.syspath_prepend(str(tmp_path))
    torch(tmp_path, "None")
    return tmp_path


def torch(folder: Path, cuda: str) -> None:
    cuda_packages.record(folder, "torch", "2.13.0", ["torch/version.py"])
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch" / "version.py").write_text(f"cuda: Optional[str] = {cuda}\nhip = None\n")


def plugin(folder: Path, cuda: int) -> None:
    for part in ("plugin", "pjrt"):
        name = f"jax-cuda{cuda}-{part}"
        cuda_packages.record(folder, name, versions.version("jax") or "", [])


def found() -> list[Finding]:
    """What is said besides the list of versions."""
    return versions.check(load("debug").base())[1:]


def test_cuda_12_and_13_over_one_another_are_refused(packages: Path) -> None:
    for cuda, version in ((12, "9.10.2.21"), (13, "9.20.0.48")):
        cuda_packages.record(packages, f"nvidia-cudnn-cu{cuda}", version, [])
    (finding,) = found()
    assert finding.verdict == "fail" and "nvidia-cudnn: of CUDA 12 and of 13" in finding.text
    assert "make install EXTRA=cuda13" in finding.fix


@pytest.mark.parametrize(("of_jax", "of_torch"), [(12, "'13.0'"), (13, "'12.8'")])
def test_jax_and_torch_of_two_cudas_are_refused(of_jax: int, of_torch: str, packages: Path) -> None:
    plugin(packages, of_jax)
    torch(packages, of_torch)
    (finding,) = found()
    assert finding.verdict == "fail" and finding.fix
    assert f"jax-cuda{of_jax}-plugin of CUDA {of_jax} and torch 2.13.0 of CUDA" in finding.text


def test_two_plugins_of_jax_are_refused(packages: Path) -> None:
    plugin(packages, 12)
    plugin(packages, 13)
    (finding,) = found()
    assert finding.verdict == "fail" and "jax-cuda13-plugin of CUDA 13 are" in finding.text


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize(
    ("cuda", "driver", "fix"),
    [
        (12, "535.104.05", "update the NVIDIA driver to 550 or newer"),
        (13, "575.57.08", "make install EXTRA=cuda12, or in a new environment pip install "),
        (12, "550.54.15", None),
        (13, "580.65.06", None),
    ],
)
def test_a_driver_too_old_is_refused(
    cuda: int, driver: str, fix: str | None, kernel: str, packages: Path
) -> None:
    (packages / "driver").write_text(kernel.format(driver) + COMPILER)
    plugin(packages, cuda)
    torch(packages, f"'{cuda}.0'")
    assert versions.driver_version() == driver
    if fix is None:
        assert found() == []
        return
    (finding,) = found()
    assert finding.verdict == "fail" and finding.fix.startswith(fix)
    assert f"the NVIDIA driver is {driver}, CUDA {cuda} needs" in finding.text


def test_a_driver_that_the_kernel_does_not_tell_is_asked_for(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    plugin(packages, 13)
    (finding,) = found()
    assert finding.verdict == "fail" and "the NVIDIA driver is 550.54.15, CUDA 13" in finding.text


def test_a_driver_without_a_plugin_is_told(packages: Path) -> None:
    """The extra is one that the driver runs."""
    (packages / "driver").write_text(KERNELS["open"].format("550.54.15") + COMPILER)
    torch(packages, "'13.0'")
    (finding,) = found()
    assert finding.verdict == "warn" and "JAX has no CUDA plugin" in finding.text
    assert "booster_ray[cuda12]" in finding.fix


def test_libraries_of_a_torch_built_with_cuda_are_no_fault(packages: Path) -> None:
    cuda_packages.write(packages)
    torch(packages, "'13.0'")
    assert found() == []


@pytest.mark.parametrize(("package", "number"), [("jaxlib", "0.9.1"), ("jax-cuda12-plugin", "9.3")])
def test_parts_of_jax_that_differ_are_refused(package: str, number: str, packages: Path) -> None:
    cuda_packages.record(packages, "jax", "0.9.2", [])
    cuda_packages.record(packages, package, number, [])
    (finding,) = found()
    assert finding.verdict == "fail" and f"{package} is {number}, jax is 0.9.2" in finding.text
