"""Data parallelism, on two devices that a CPU pretends to be."""

import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from pydantic import ValidationError

from booster_ray.config import SAC, ConfigError, load
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.symmetry import Mirror

OBS, ACT, BATCH = 5, 2, 46
COMMON: dict[str, Any] = {"actor_hidden": (13,), "critic_hidden": (13,), "batch_size": BATCH}
KINDS: dict[str, dict[str, Any]] = {
    "scalar": {},
    "all": {
        "critic": "c51", "num_atoms": 11, "q_target": "mean", "actor_every": 2,
        "symmetry": "augment", "max_grad_norm": 1.0,
    },
}  # fmt: skip
MIRROR = Mirror(*([(i, -1) for i in range(size)] for size in (OBS, ACT)))


def batches(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    lead = 3, BATCH
    return Batch(
        observation=rng.normal(size=(*lead, OBS)).astype(np.float32),
        action=rng.uniform(-1, 1, (*lead, ACT)).astype(np.float32),
        reward=rng.normal(size=lead).astype(np.float32),
        next_observation=rng.normal(size=(*lead, OBS)).astype(np.float32),
        terminated=(rng.random(lead) < 0.1).astype(np.float32),
    )


def trained(kind: str, devices: int) -> tuple[Sac, SacState, dict[str, jax.Array]]:
    sac = Sac(SAC(**COMMON, **KINDS[kind], devices=devices), OBS, ACT, MIRROR)
    state, _ = sac.act(sac.init(0), batches(9).observation[0])
    metrics: dict[str, jax.Array] = {}
    for seed in range(2):
        state, metrics = sac.update(state, batches(seed))
    return sac, state, metrics


def compare(kind: str) -> None:
    """In a process with two devices: the same parameters, up to the order of sums."""
    _, one, expected = trained(kind, 1)
    sac, two, metrics = trained(kind, 2)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert len(b.sharding.device_set) == 2
        assert b.is_fully_replicated
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(value, metrics[name], rtol=1e-3, atol=1e-5)
    # Each device multiplies its half of the batch, and gradients are summed over both.
    program = sac.functions.update.lower(sac.numbers, two, batches(0)).compile().as_text()
    rows = BATCH * (2 if sac.config.symmetry == "augment" else 1)
    assert "all-reduce" in program
    products = [line for line in program.splitlines() if " dot(" in line]
    assert products
    assert not [line for line in products if f"[{rows}," in line or f",{rows}," in line]
    # A state from one device is taken over, as from a checkpoint.
    leaves, structure = jax.tree.flatten(two)
    again = jax.tree.unflatten(structure, [jax.numpy.asarray(np.array(x)) for x in leaves])
    first, second = sac.update(two, batches(5))[0], sac.update(again, batches(5))[0]
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_two_devices_learn_what_one_does() -> None:
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    result = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "the same" in result.stdout


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="devices is 64, but JAX sees 1 here"):
        Sac(SAC(**COMMON | {"batch_size": 64}, devices=64), OBS, ACT)


@pytest.mark.parametrize(
    ("size", "devices", "said"),
    [
        (512, 3, "batch_size 512 does not divide among 3 devices, expected 510 or 513"),
        (2, 4, "batch_size 2 does not divide among 4 devices, expected 4"),
    ],
)
def test_a_batch_that_devices_cannot_share(size: int, devices: int, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SAC(batch_size=size, devices=devices)
    with pytest.raises(ConfigError) as caught:
        load("default", [f"sac.batch_size={size}", f"sac.devices={devices}"])
    assert said in str(caught.value)
    assert "command line: sac." in str(caught.value)


if __name__ == "__main__":
    for each in KINDS:
        compare(each)
    print("the same")
