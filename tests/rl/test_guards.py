import math

import pytest

from booster_ray.rl.guards import (
    COLLAPSE_NATS,
    COLLAPSE_REPORTS,
    EXPLODED,
    EntropyWatch,
    collapsed,
    divergence,
    watch_entropy,
)

FINE = {"critic_loss": 3.0, "actor_loss": -200.0, "q": 40.0, "entropy": -3.0, "alpha": 0.1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"critic_loss": math.nan}, "critic_loss is nan"),
        ({"actor_loss": -math.inf}, "actor_loss is -inf"),
        ({"actor_grad_norm": 2 * EXPLODED}, "actor_grad_norm is 2e+06, beyond 1e+06"),
        ({"q_max": -2 * EXPLODED}, "q_max is -2e+06, beyond 1e+06"),
        ({"env_steps": 1e12}, None),
        ({"edge_mass": 0.2}, None),
        ({"edge_mass": 0.97}, "edge_mass is 0.97 (returns do not fit sac.v_min to sac.v_max)"),
    ],
)
def test_divergence(change: dict[str, float], said: str | None) -> None:
    assert divergence(FINE | change) == said


def test_divergence_by_another_limit_and_of_nothing() -> None:
    assert divergence(FINE, limit=100.0) == "actor_loss is -200, beyond 100"
    assert divergence({}) is None


def watched(entropies: list[float | None], target: float = 1.0, size: int = 3) -> EntropyWatch:
    watch = EntropyWatch()
    for entropy in entropies:
        report = {} if entropy is None else {"entropy": entropy}
        watch = watch_entropy(watch, report, target, size)
    return watch


LOW = 1.0 - 3 * COLLAPSE_NATS - 0.1


@pytest.mark.parametrize(
    ("entropies", "expected"),
    [
        ([LOW] * COLLAPSE_REPORTS, True),
        ([LOW] * (COLLAPSE_REPORTS - 1), False),
        ([LOW, None] * COLLAPSE_REPORTS, True),  # a report without an update says nothing
        ([LOW] * (COLLAPSE_REPORTS - 1) + [0.0] + [LOW] * (COLLAPSE_REPORTS - 1), False),
        ([LOW + 0.2] * 20, False),
    ],
)
def test_entropy_that_stays_low_is_a_collapse(
    entropies: list[float | None], expected: bool
) -> None:
    assert collapsed(watched(entropies)) == expected
