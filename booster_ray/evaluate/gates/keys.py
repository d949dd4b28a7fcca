"""What can change a gate's verdict besides the checkpoint: the key that it is kept under."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import booster_ray
from booster_ray.config import Config
from booster_ray.policy.preprocessor import render, render_action
from booster_ray.policy.settings import settings_of

PACKAGES = ("jax", "mujoco", "mujoco-mjx", "numpy", "sai-mujoco", "torch", "warp-lang")


def verdict_key(config: Config, **settings: Any) -> Mapping[str, Any]:
    """JSON: the code and versions that judge, the device, the package's text, and ``settings``.

    Args:
        config: of the checkpoint.
        settings: of the gate: episodes, worlds, physics.
    """
    import jax

    made = settings_of(config)
    text = render(made) + render_action()
    return {
        "code": _code(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "device": jax.devices()[0].device_kind,
        "text": hashlib.sha256(text.encode()).hexdigest(),
        "settings": made.to_dict(),
        **settings,
    }


@cache
def _code() -> str:
    """Of this package's source, so that a verdict does not outlive a change of the rules."""
    root = Path(booster_ray.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
