"""What reward weights mean: in presets, and in what an earlier release wrote."""

from pathlib import Path

import pytest

from booster_ray.config import Config, load
from booster_ray.config.schema import RELEASE_0_1
from booster_ray.envs.options import reward_options, training_options
from booster_ray.soccer import game
from booster_ray.soccer.rewards import TERMS

PRESETS = Path(__file__).parents[2] / "tune_configs"
RELEASE = Path(__file__).parents[1] / "golden" / "release"


def standing(config: Config) -> float:
    """The value of standing still in the default pose for ever: what pays 1 then, for ever."""
    told, discount = reward_options(config), config.sac.discount
    paid = ("alive", "upright", "height", "pose")
    second = sum(told["weights"][name] for name in paid)
    return float(told["reward_seconds"] * second / (1 - discount))


@pytest.mark.parametrize("discount", [0.97, 0.98, 0.99])
def test_the_returns_of_aggressive_fit_its_support(discount: float) -> None:
    sweep = load(PRESETS / "aggressive.yaml", [f"sac.discount={discount}"])
    rewards = sweep.space
    highest = {key[-1]: d.high for key, d in rewards.items() if key[0] == "rewards"}
    config = sweep.base()
    weights = config.rewards.model_dump() | highest
    assert config.sac.critic == "c51"
    step = config.control.decimation * game.TIMESTEP
    # Every dense term at its most for ever, a metre a second of ball speed, and a goal.
    dense = sum(w for n, w in weights.items() if w > 0 and not TERMS[n].event)
    best = step * dense / (1 - discount) + weights["goal"]
    worst = weights["fall"] + step * sum(
        w for n, w in weights.items() if w < 0 and not TERMS[n].event
    ) / (1 - discount)
    assert config.sac.v_min < worst < 0 < standing(config) < best < config.sac.v_max


@pytest.mark.parametrize("stage", ["sac", "ddpg"])
def test_a_run_of_release_0_1_is_paid_as_it_was(stage: str) -> None:
    config = load(RELEASE / stage / "config.yaml").base()
    assert config.training.reward_weights == "per_step"
    assert config.world.time_limit == "truncates"
    told = training_options(config)
    assert told["reward_seconds"] == 1.0 and not told["limit_terminates"]
    assert Config.model_validate(config.to_dict()) == config


def test_a_config_of_today_is_paid_by_the_second() -> None:
    config = Config()
    assert set(config.rewards.model_dump()) >= RELEASE_0_1
    assert Config.model_validate(config.to_dict()).training.reward_weights == "per_second"
    few = Config.model_validate({"rewards": {"alive": 1.0}})
    assert training_options(few)["reward_seconds"] == pytest.approx(0.02)
    fast = Config.model_validate({"control": {"decimation": 5}})
    assert training_options(fast)["reward_seconds"] == pytest.approx(0.01)


def test_the_limit_is_an_end_where_the_score_is_paid() -> None:
    def ends(**raw: object) -> bool:
        return bool(training_options(Config.model_validate(raw))["limit_terminates"])

    assert not ends() and ends(rewards={"official": 1.0})
    assert ends(world={"time_limit": "terminates"})
    assert not ends(rewards={"official": 1.0}, world={"time_limit": "truncates"})
