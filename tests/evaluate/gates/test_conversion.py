"""Gate 2 on networks of every kind, and that it can fail."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.evaluate.gates import conversion
from booster_ray.evaluate.gates.conversion import gate2, record
from booster_ray.evaluate.target import checkpoint_actor
from booster_ray.rl.sac import networks
from booster_ray.soccer import game
from policies import save_checkpoint, tiny_config


@pytest.mark.parametrize(
    ("sac", "features"),
    [
        ({}, ()),
        ({"activation": "elu", "layer_norm": False}, ("egocentric",)),
        ({"activation": "relu", "actor_hidden": [24, 16]}, ("clock", "previous_action")),
        ({"normalize_observations": False, "matmul": "bfloat16"}, ()),
    ],
)
def test_a_conversion_passes(tmp_path: Path, sac: dict[str, Any], features: tuple[str]) -> None:
    verdict = gate2(save_checkpoint(tmp_path / "c", tiny_config(features, **sac)))
    assert verdict.passed, verdict.numbers
    assert verdict.numbers["states"] >= 1000
    assert set(verdict.numbers["max_difference"]) == {"torch", "package"}
    assert all(gap < 1e-5 for gap in verdict.numbers["max_difference"].values())
    assert not verdict.advice


def test_it_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path / "c", tiny_config())
    right = checkpoint_actor(path)

    def wrong(path: Path) -> Any:
        right.module.deviation[40] *= 1.01
        return right

    monkeypatch.setattr(conversion, "checkpoint_actor", wrong)
    verdict = gate2(path)
    assert not verdict.passed and verdict.advice
    assert not all(holds for *_, holds in verdict.rows)


def tf32(x: jax.Array, weight: jax.Array, dimensions: Any, *_: Any, **__: Any) -> jax.Array:
    """A product as NVIDIA's GPUs since Ampere make it, unless they are asked for all of float32."""

    def rounded(values: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
        half, cut = jnp.uint32(0x1000), jnp.uint32(0xFFFFE000)  # 10 bits of mantissa stay
        return jax.lax.bitcast_convert_type((bits + half) & cut, jnp.float32)

    if jax.config.jax_default_matmul_precision != "highest":
        x, weight = rounded(x), rounded(weight)
    return jax.lax.dot_general(x, weight, dimensions)


def test_the_verdict_is_the_same_where_products_are_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "c", tiny_config())
    exact = gate2(path)
    monkeypatch.setitem(networks.MATMULS, "float32", tf32)
    verdict = gate2(path)
    assert verdict.passed and verdict.numbers == exact.numbers


def test_the_states_are_of_all_tasks_and_differ(tmp_path: Path) -> None:
    actor = checkpoint_actor(save_checkpoint(tmp_path / "c", tiny_config()))
    seen = record(actor.config, lambda observation: np.zeros((len(observation), 12)))
    assert len(np.unique(seen, axis=0)) > 900
    tasks = seen[:, game.OBSERVATION_SIZE - 3 : game.OBSERVATION_SIZE].argmax(axis=1)
    assert all((tasks == task).sum() > 300 for task in range(3))
