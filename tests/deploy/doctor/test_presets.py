"""The GPU presets, by the doctor's own numbers: nothing here has a GPU."""

from __future__ import annotations

import pytest

from booster_ray.config import load
from booster_ray.deploy.doctor.cost import Fit, fit
from booster_ray.deploy.doctor.machines import find, read_prices
from booster_ray.deploy.doctor.measure import typical
from booster_ray.deploy.doctor.memory import heaviest, plan_memory


def on_an_l4(preset: str) -> Fit:
    sweep = load(preset)
    measured = typical(sweep.base())
    config = heaviest(sweep, measured, gpu=True)
    plan = plan_memory(config, measured, gpu=True)
    return fit(config, plan, find(read_prices(), "g2-standard-12"), sweep.base().tune.trials)


@pytest.mark.parametrize("preset", ["conservative", "aggressive"])
def test_the_preset_fits_a_24_gb_gpu(preset: str) -> None:
    found = on_an_l4(preset)
    assert found.problem == "" and found.at_once == 1
    assert 0 < found.device < found.device_limit <= 18


def test_aggressive_fills_more_of_it() -> None:
    careful, bold = on_an_l4("conservative"), on_an_l4("aggressive")
    assert bold.device > 0.5 * bold.device_limit > careful.device


@pytest.mark.parametrize("preset", ["conservative", "aggressive"])
def test_the_preset_searches_rewards_and_levels(preset: str) -> None:
    sweep = load(preset)
    assert "randomization.level" in sweep.space and "rewards.approach" in sweep.space
    config = sweep.base()
    assert config.world.kind == "mjx" and config.trainer.use_gpu and config.runtime.prefer_pip_cuda
