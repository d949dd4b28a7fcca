"""Gate 2 on networks of every kind, and that it can fail."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate.gates.tf32 import tf32

from booster_ray.evaluate.gates import closed_loop
from booster_ray.evaluate.gates.conversion import gate2
from booster_ray.policy import convert
from booster_ray.rl.sac import networks
from booster_ray.soccer import game
from booster_ray.soccer.observation import OFFICIAL
from policies import save_checkpoint, tiny_config

STEPS = 200
"""Physics steps of an episode; the command plays whole ones."""


@pytest.mark.parametrize(
    ("sac", "features", "control"),
    [
        ({}, (), {}),
        ({"activation": "elu", "layer_norm": False}, ("egocentric", "time_left"), {}),
        (
            {"activation": "relu", "actor_hidden": [24, 16]},
            ("clock", "previous_action"),
            {"decimation": 7},
        ),
        ({"normalize_observations": False, "matmul": "bfloat16"}, (), {"mode": "torque"}),
    ],
)
def test_a_conversion_passes(
    tmp_path: Path, sac: dict[str, Any], features: tuple[str], control: dict[str, Any]
) -> None:
    config = tiny_config(features, **sac)
    config = type(config).model_validate(config.to_dict() | {"control": control})
    verdict = gate2(save_checkpoint(tmp_path / "c", config), steps=STEPS)
    assert verdict.passed and not verdict.advice, verdict.numbers
    assert verdict.numbers["control_steps"] > 300 and verdict.numbers["resets"] > 9
    compared = set(verdict.numbers["max_difference"])
    assert compared >= {*OFFICIAL, "action", "torque", "network", "pd", *features} - {
        "previous_action"
    }
    assert ("memory" in compared) == ("previous_action" in features)


def test_it_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = convert.to_torch

    def wrong(config: Any, learner: Any) -> Any:
        module = right(config, learner)
        module.deviation[40] *= 1.01
        return module

    monkeypatch.setattr(convert, "to_torch", wrong)
    verdict = gate2(save_checkpoint(tmp_path / "c", tiny_config()), steps=STEPS)
    assert not verdict.passed and not all(holds for *_, holds in verdict.rows)
    assert verdict.numbers["differs"][0] == "network" and "network" in verdict.advice[0]


def test_the_verdict_is_the_same_where_products_are_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "c", tiny_config())
    exact = gate2(path, steps=STEPS)
    monkeypatch.setitem(networks.MATMULS, "float32", tf32)
    verdict = gate2(path, steps=STEPS)
    assert verdict.passed and verdict.numbers == exact.numbers


def test_without_all_of_float32_a_good_package_would_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulation bites: it is the precision asked for that keeps the verdict."""
    monkeypatch.setitem(networks.MATMULS, "float32", tf32)
    monkeypatch.setattr("jax.default_matmul_precision", lambda _: contextlib.nullcontext())
    verdict = gate2(save_checkpoint(tmp_path / "c", tiny_config()), steps=STEPS)
    assert verdict.numbers["differs"][0] == "network"


def test_the_worlds_of_a_batch_part(tmp_path: Path) -> None:
    """Some stand where others fall: else dead worlds and resets would not be in the batch."""
    world = closed_loop.NativeWorld(
        game.TASKS, closed_loop.WORLDS * 3, closed_loop.gains(tiny_config()),
        mode="newton_metres", decimation=1,
        episode_steps=closed_loop.RESETS_EPISODE,
    )  # fmt: skip
    world.reset(0)
    closed_loop._stagger(world)
    ends = []
    for step in range(150):
        result = world.step(np.zeros((world.num_envs, 12)))
        ends += [step] * int((result.terminated | result.truncated).any())
    world.close()
    assert len(ends) >= closed_loop.WORLDS
