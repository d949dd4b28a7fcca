"""Which of MuJoCo's back ends draws here without a display."""

from __future__ import annotations

import os
import subprocess
import sys

from booster_ray.config import Config
from booster_ray.deploy.doctor.devices import FALLING
from booster_ray.deploy.doctor.findings import Finding, Status

BACKENDS = {"egl": "libegl1", "osmesa": "libosmesa6"}
"""And the Debian packages they need."""
SECONDS = 60.0


def check(config: Config) -> list[Finding]:
    """The configured back end, or each; films are drawn with it, nothing else needs one."""
    wanted = config.runtime.mujoco_gl or os.environ.get("MUJOCO_GL")
    if wanted == "disabled":
        return [Finding("render", "ok", "disabled: no films")]
    tried = [wanted] if wanted in BACKENDS else list(BACKENDS)
    errors = {backend: _error(backend) for backend in tried}
    working = [backend for backend, error in errors.items() if error is None]
    details = {"errors": errors}
    if working:
        text = f"{' and '.join(working)} can draw"
        return [Finding("render", "ok", text, details=details)]
    text = "; ".join(f"{backend}: {error}" for backend, error in errors.items())
    packages = " or ".join(BACKENDS[backend] for backend in tried)
    fix = f"install {packages} (Debian's names), or set runtime.mujoco_gl=disabled"
    verdict: Status = "fail" if config.runtime.mujoco_gl else "warn"
    return [Finding("render", verdict, text, fix, details)]


def _error(backend: str) -> str | None:
    """Why a back end cannot draw; None: it can. It draws in a process of its own: a GL library
    that does not load stays half loaded, and may take the process with it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {SECONDS:g} s"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return last[:120]


def draw() -> int:
    """Draw a frame; 0 when there is something in it."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(FALLING)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 48, 64) as renderer:
        renderer.update_scene(data)
        return 0 if renderer.render().std() > 0 else 1


if __name__ == "__main__":
    sys.exit(draw())
