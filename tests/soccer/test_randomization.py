import numpy as np
import pytest

from booster_ray.soccer import randomization
from booster_ray.soccer.randomization import LEVELS, Factors, Level, sample

BODIES = 13
HALF_WIDTHS = {
    "body_mass": "mass",
    "friction": "friction",
    "ball_friction": "ball_friction",
    "foot_friction": "foot_friction",
    "damping": "damping",
    "ball_mass": "ball_mass",
    "kp": "gains",
    "kd": "gains",
}


def drawn(level: Level, count: int = 300) -> Factors:
    rng = np.random.default_rng(0)
    samples = [sample(level, BODIES, rng) for _ in range(count)]
    return Factors(*(np.stack(parts) for parts in zip(*samples, strict=True)))


def test_levels_are_the_specified_table() -> None:
    # SPEC section 3: mass, friction, damping, observation noise.
    rows = [(s.mass, s.friction, s.damping, s.observation_noise) for s in LEVELS]
    assert rows == [
        (0, 0, 0, 0),
        (0.05, 0.10, 0.05, 0.005),
        (0.10, 0.30, 0.15, 0.02),
        (0.20, 0.50, 0.20, 0.03),
    ]
    assert all(level._replace(mass=0, friction=0, damping=0, observation_noise=0) == Level()
               for level in LEVELS[:3])  # fmt: skip
    top = LEVELS[3]
    extras = (top.ball_mass, top.ball_friction, top.foot_friction, top.gains, top.action_delay)
    assert extras == (0.20, 0.30, 0.50, 0.10, 1)
    assert top.push_speed > 0


def test_level_zero_changes_nothing() -> None:
    factors = drawn(LEVELS[0])._asdict()
    assert (factors.pop("action_delay") == 0).all()
    for name, values in factors.items():
        assert (values == 1).all(), name


@pytest.mark.parametrize("level", [1, 2, 3])
def test_factors_fill_their_range(level: int) -> None:
    factors = drawn(LEVELS[level])
    for name, quantity in HALF_WIDTHS.items():
        off, width = np.abs(getattr(factors, name) - 1), getattr(LEVELS[level], quantity)
        assert off.max() <= width, name
        assert off.max() >= 0.9 * width, name
    assert set(np.unique(factors.action_delay)) == set(range(LEVELS[level].action_delay + 1))


def test_every_robot_body_and_joint_has_its_own_factor() -> None:
    one = sample(LEVELS[3], BODIES, np.random.default_rng(1))
    assert len(np.unique(one.body_mass)) == BODIES
    assert len(np.unique(one.damping)) == 12
    assert one.kp != one.kd
    assert set(HALF_WIDTHS) | {"action_delay"} == set(randomization.Factors._fields)
