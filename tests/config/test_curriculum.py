"""Rewards that weigh more or less in the course of training."""

import pytest

from booster_ray.config import Config, ConfigError, load
from booster_ray.config.curriculum import reward_factors, scheduled_terms

GROWING = {"terms": ["costs"], "factor": [[0, 0.1], [0.5, 1.0]]}


def configured(*lessons: dict[str, object]) -> Config:
    return Config.model_validate(
        {
            "rewards": {"gait": 0.5, "goal": 0.0, "fall": -5.0, "foot_slip": 0.0},
            "curriculum": list(lessons),
            "training": {"env_steps": 1000},
        }
    )


def test_costs_are_the_terms_of_negative_weight() -> None:
    terms = scheduled_terms(configured(GROWING))
    assert set(terms) == {"fall", "smoothness", "joint_limits"}


def test_a_term_without_weight_is_not_scheduled() -> None:
    config = configured({"terms": ["goal", "gait"], "factor": [[0, 2.0]]})
    assert scheduled_terms(config) == ("gait",)


@pytest.mark.parametrize(("env_steps", "cost"), [(0, 0.1), (250, 0.55), (500, 1.0), (900, 1.0)])
def test_factors_lie_on_the_lines_between_points(env_steps: int, cost: float) -> None:
    factors = reward_factors(configured(GROWING), env_steps)
    assert factors["fall"] == pytest.approx(cost)


def test_lessons_that_share_a_term_multiply() -> None:
    config = configured(GROWING, {"terms": ["fall"], "factor": [[0, 3.0]]})
    factors = reward_factors(config, 0)
    assert factors["fall"] == pytest.approx(0.3)
    assert factors["smoothness"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("curriculum=[{terms: [gaitt], factor: [[0, 1.0]]}]", "did you mean 'gait'"),
        ("curriculum=[{terms: [], factor: [[0, 1.0]]}]", "curriculum.0.terms"),
        ("curriculum=[{terms: [gait, gait], factor: [[0, 1.0]]}]", "twice"),
        ("curriculum=[{terms: [gait], factor: []}]", "curriculum.0.factor"),
        ("curriculum=[{terms: [gait], factor: [[0, -1.0]]}]", ">= 0"),
    ],
)
def test_a_wrong_lesson_is_one_clear_line(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load("debug", [override])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_environments_have_no_curriculum() -> None:
    lesson = "curriculum=[{terms: [gait], factor: [[0, 1.0]]}]"
    with pytest.raises(ConfigError, match="curriculum"):
        load("debug", [lesson, "world=gym:Pendulum-v1"]).base()
