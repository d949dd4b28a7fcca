"""Devices that JAX and torch see, and whether they compute there."""

from __future__ import annotations

from typing import Any

from booster_ray.config import Config, ConfigError
from booster_ray.deploy.doctor.findings import Finding, Status

GB = 1e9
FALLING = """<mujoco><worldbody><geom type="plane" size="1 1 .1"/>
<body pos="0 0 .2"><freejoint/><geom type="sphere" size=".1"/></body></worldbody></mujoco>"""
"""A ball above the ground: the smallest model with a contact."""
STEPS = 100
"""Of 2 ms: the ball has fallen 0.1 m and lies on the ground."""


def check(config: Config) -> list[Finding]:
    """What there is, against what the config wants."""
    import jax
    import torch

    try:
        local = jax.local_devices()
    except (RuntimeError, AssertionError):
        return [_elsewhere(config)]
    names = ", ".join(_described(device) for device in local)
    torch_gpus = torch.cuda.device_count()
    gpu_gb = [_memory(device) / config.runtime.mem_fraction / GB for device in local]
    details = {
        "jax": [device.device_kind for device in local],
        "torch_gpus": torch_gpus,
        "gpu_gb": [size for size in gpu_gb if size],
    }
    seen = Finding("devices", "ok", f"JAX: {names}; torch: CPU, {torch_gpus} GPUs", "", details)
    wants_gpu = config.trainer.use_gpu or config.world.kind == "mjx"
    if wants_gpu and jax.default_backend() == "cpu":
        what = "trainer.use_gpu" if config.trainer.use_gpu else "world.kind mjx"
        verdict: Status = "fail" if config.trainer.use_gpu else "warn"
        fix = "run it where a GPU is (cluster/README.md), or set world.kind=native"
        return [seen, Finding("devices", verdict, f"{what} is set, and JAX sees no GPU", fix)]
    if config.sac.devices > len(local):
        text = f"sac.devices is {config.sac.devices}, and JAX sees {len(local)}"
        return [seen, Finding("devices", "fail", text, f"set sac.devices={len(local)}")]
    return [seen]


def _elsewhere(config: Config) -> Finding:
    """JAX is told to compute where it cannot."""
    from booster_ray.runtime.environment import PLATFORMS, check_platforms

    fix = f"unset {PLATFORMS} and runtime.jax_platforms, or nvidia-smi"
    try:
        check_platforms(config, "the config")
    except ConfigError as error:
        return Finding("devices", "fail", str(error), fix)
    return Finding("devices", "fail", "JAX finds no device to compute on", fix)


def _described(device: Any) -> str:
    memory = _memory(device)
    return f"{device.device_kind}{f' ({memory / GB:.1f} GB for JAX)' if memory else ''}"


def _memory(device: Any) -> float:
    """Bytes that JAX may take of a GPU; 0 of a CPU."""
    if device.platform != "gpu":
        return 0.0
    return float((device.memory_stats() or {}).get("bytes_limit", 0))


def mjx_smoke(config: Config) -> list[Finding]:
    """A ball falls and comes to rest in MJX, on every device that JAX sees."""
    import jax
    import mujoco

    from booster_ray.envs.brax_mjx import mjx

    model = mujoco.MjModel.from_xml_string(FALLING)
    found = []
    for device in jax.local_devices():
        with jax.default_device(device):
            put = mjx.put_model(model, impl="jax")
            state = mjx.make_data(put)
            step = jax.jit(lambda state, put=put: mjx.step(put, state))
            for _ in range(STEPS):
                state = step(state)
            height = float(state.qpos[2])
        rests = 0.09 < height < 0.11
        text = f"{device}: a ball rests at {height:.3f} m, its radius is 0.1 m"
        fix = "" if rests else "JAX miscomputes here: compare its version with constraints.txt"
        found.append(Finding("mjx", "ok" if rests else "fail", text, fix))
    return found


def torch_smoke(config: Config) -> list[Finding]:
    """A layer learns on the CPU and on every GPU that torch sees."""
    import torch

    places = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found = []
    for place in places:
        torch.manual_seed(0)
        layer = torch.nn.Linear(64, 1).to(place)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        x = torch.randn(256, 64, device=place)
        losses = []
        for _ in range(50):
            loss = ((layer(x) - x.sum(dim=1, keepdim=True)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        learns = losses[-1] < 0.5 * losses[0]
        text = f"{place}: a loss fell from {losses[0]:.2g} to {losses[-1]:.2g}"
        fix = "" if learns else "torch miscomputes here: compare its version with constraints.txt"
        found.append(Finding("torch", "ok" if learns else "fail", text, fix))
    return found
