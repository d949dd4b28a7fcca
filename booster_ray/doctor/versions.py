"""Which versions are installed, and whether they go together."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from booster_ray.config import Config
from booster_ray.doctor.findings import Finding
from booster_ray.worlds.versions import VersionError, check_versions

SHOWN = ("jax", "jaxlib", "mujoco", "mujoco-mjx", "sai-mujoco", "ray", "optuna", "torch", "numpy")
PLUGINS = tuple(f"jax-cuda{cuda}-{part}" for cuda in (12, 13) for part in ("plugin", "pjrt"))
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
    from booster_ray.train.runtime import pip_cuda_folders

    if twice := [name for name in SHARED if version(f"{name}-cu12") and version(f"{name}-cu13")]:
        text = f"{', '.join(twice)}: of CUDA 12 and of 13, installed over one another"
        fix = "install a torch built with jax's CUDA: pip install 'torch==2.10.0' for jax[cuda12]"
        return [Finding("versions", "fail", text, fix)]
    if DRIVER.exists() and not any(version(name) for name in PLUGINS):
        text = "an NVIDIA driver is here, but JAX has no CUDA plugin and will use the CPU"
        return [Finding("versions", "warn", text, "pip install 'booster_ray[cuda]'")]
    if config.runtime.prefer_pip_cuda and not pip_cuda_folders():
        text = "runtime.prefer_pip_cuda is true, but pip has installed no CUDA libraries"
        return [Finding("versions", "warn", text, "pip install 'booster_ray[cuda]'")]
    return []
