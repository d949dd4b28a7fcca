"""Brax and MJX, imported without what MJX prints wherever warp is not installed.

Whoever needs either takes it from here: the line comes with the first import, whoever makes it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec

NOISE = ("Failed to import warp:", "Failed to import mujoco_warp:")
"""How the lines begin."""


@contextmanager
def _without_warps_absence() -> Iterator[None]:
    """Leave out that warp is missing, where it is: it is optional. All else is printed.

    A warp that is installed and does not load is a fault, and told.
    """
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            if find_spec("warp") or not line.startswith(NOISE):
                print(line)


with _without_warps_absence():
    from brax import envs
    from brax.envs.base import Env, State, Wrapper
    from mujoco import mjx

__all__ = ["Env", "State", "Wrapper", "envs", "mjx"]
