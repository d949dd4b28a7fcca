"""Which versions are installed, and whether they go together."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path

from booster_ray.config import Config
from booster_ray.deploy.doctor.findings import Finding
from booster_ray.runtime.versions import VersionError, check_versions

SHOWN = ("jax", "jaxlib", "mujoco", "mujoco-mjx", "sai-mujoco", "ray", "optuna", "torch", "numpy")
DRIVERS = {12: 550, 13: 580}
"""CUDA to the oldest NVIDIA driver that the extra of its name is for."""
PLUGINS = tuple(f"jax-cuda{cuda}-{part}" for cuda in DRIVERS for part in ("plugin", "pjrt"))
"""JAX's CUDA side comes in packages of its own, which must be of jax's version."""
SHARED = ("nvidia-cudnn", "nvidia-nccl", "nvidia-nvshmem", "nvidia-cusparselt")
"""Packages whose releases for CUDA 12 and 13 install files of the same names."""
DRIVER = Path("/proc/driver/nvidia/version")


def version(package: str) -> str | None:
    """An installed package's version; None: it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check(config: Config) -> list[Finding]:
    """Versions of what the results depend on; jax = jaxlib = plugin; the game's own range."""
    found = {name: version(name) for name in (*SHOWN, *PLUGINS, "warp-lang")}
    shown = [f"{name} {number}" for name, number in found.items() if number]
    text = f"python {platform.python_version()}, {', '.join(shown)}"
    return [Finding("versions", "ok", text, details=found), *_jax(found), *_game(), *_cuda(config)]


def _jax(found: dict[str, str | None]) -> list[Finding]:
    jax = found["jax"]
    for name in ("jaxlib", *PLUGINS):
        if (number := found[name]) and number != jax:
            text = f"{name} is {number}, jax is {jax}"
            return [Finding("versions", "fail", text, f"pip install '{name}=={jax}'")]
    if jax and jax.startswith("0.10."):
        text = f"jax {jax} dead-locks on CPUs with few cores (a vmapped mjx.step)"
        return [Finding("versions", "warn", text, "pip install 'jax==0.9.2'")]
    return []


def _game() -> list[Finding]:
    try:
        check_versions()
    except VersionError as error:
        text, _, fix = str(error).partition("; run: ")
        return [Finding("versions", "fail", text, fix)]
    return []


def _cuda(config: Config) -> list[Finding]:
    from booster_ray.runtime.environment import pip_cuda_folders

    if twice := [name for name in SHARED if version(f"{name}-cu12") and version(f"{name}-cu13")]:
        text = f"{', '.join(twice)}: of CUDA 12 and of 13, installed over one another"
        return [Finding("versions", "fail", text, _one_cuda())]
    parts = _parts_of_cuda()
    if len(set(parts.values())) > 1:
        named = " and ".join(f"{name} of CUDA {cuda}" for name, cuda in parts.items())
        text = f"{named} are installed: one process cannot load both"
        return [Finding("versions", "fail", text, _one_cuda())]
    driver = driver_version()
    of_jax = next((cuda for name, cuda in parts.items() if name.startswith("jax")), None)
    if driver and of_jax is None:
        text = "an NVIDIA driver is here, but JAX has no CUDA plugin and will use the CPU"
        return [Finding("versions", "warn", text, _one_cuda())]
    if driver and of_jax and int(driver.split(".")[0]) < DRIVERS[of_jax]:
        text = f"the NVIDIA driver is {driver}, CUDA {of_jax} needs {DRIVERS[of_jax]} or newer"
        return [Finding("versions", "fail", text, _one_cuda())]
    if config.runtime.prefer_pip_cuda and not pip_cuda_folders():
        text = "runtime.prefer_pip_cuda is true, but pip has installed no CUDA libraries"
        return [Finding("versions", "warn", text, _one_cuda())]
    return []


def _parts_of_cuda() -> dict[str, int]:
    """What is installed that brings a CUDA, to which one: JAX's plugins and torch."""
    parts = {f"jax-cuda{cuda}-plugin": cuda for cuda in DRIVERS}
    parts = {name: cuda for name, cuda in parts.items() if version(name)}
    if built := torch_cuda():
        parts[f"torch {version('torch')}"] = int(built.split(".")[0])
    return parts


def torch_cuda() -> str | None:
    """The CUDA that the installed torch was built with, as "13.0"; None: a CPU's, or no torch.

    torch writes it into a file of its own. To import torch for it would take seconds, and fails
    where libraries are missing.
    """
    try:
        file = metadata.distribution("torch").locate_file("torch/version.py")
        text = Path(str(file)).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError):
        return None
    built = re.search(r"^cuda\b[^=]*= *'(\d+[\d.]*)'", text, re.MULTILINE)
    return built[1] if built else None


def driver_version() -> str | None:
    """The version of this machine's NVIDIA driver, as "550.54.15"; None: there is none.

    The kernel tells it; where it does not (WSL), NVIDIA's library may.
    """
    try:
        told = re.search(r"Module\s.*?(\d+\.[\d.]+)", DRIVER.read_text(encoding="utf-8"))
    except OSError:
        told = None
    return told[1] if told else _driver_by_nvml()


def _driver_by_nvml() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _one_cuda() -> str:
    """How to come to one CUDA, of those that this machine's driver runs the newest."""
    driver = driver_version()
    number = int(driver.split(".")[0]) if driver else max(DRIVERS.values())
    if not (runs := [cuda for cuda, oldest in DRIVERS.items() if oldest <= number]):
        return f"update the NVIDIA driver to {min(DRIVERS.values())} or newer"
    extra = f"cuda{max(runs)}"
    return f"make install EXTRA={extra}, or in a new environment pip install 'booster_ray[{extra}]'"
