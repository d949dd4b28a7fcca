"""What rewards weigh in the course of training."""

from __future__ import annotations

from booster_ray.config.finetune import value_at
from booster_ray.config.schema import COSTS, Config, RewardSchedule


def scheduled_terms(config: Config) -> tuple[str, ...]:
    """Reward terms of a weight other than 0 that some lesson of the curriculum names."""
    weights = config.rewards.model_dump()
    return tuple(term for term, weight in weights.items() if weight and _lessons(config, term))


def reward_factors(config: Config, env_steps: int) -> dict[str, float]:
    """Factor of the weight of each of :func:`scheduled_terms` after ``env_steps``.

    Lessons that share a term multiply. Costs that grow as the policy learns are a penalty
    curriculum (Seo et al. 2025, "Learning Sim-to-Real Humanoid Locomotion in 15 Minutes"), here
    by the share of the budget that is spent, so that a resumed run needs no memory of it.
    """
    factors = {}
    for term in scheduled_terms(config):
        factors[term] = 1.0
        for lesson in _lessons(config, term):
            factors[term] *= value_at(lesson.factor, env_steps, config.training.env_steps)
    return factors


def _lessons(config: Config, term: str) -> list[RewardSchedule]:
    cost = getattr(config.rewards, term) < 0
    return [
        lesson
        for lesson in config.curriculum
        if term in lesson.terms or (cost and COSTS in lesson.terms)
    ]
