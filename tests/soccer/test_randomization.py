import numpy as np
import pytest

from booster_ray.soccer.randomization import DRAWS, LEVELS, Factors, Level, sample

BODIES = 13


def drawn(level: Level, count: int = 300) -> Factors:
    rng = np.random.default_rng(0)
    samples = [sample(level, BODIES, rng) for _ in range(count)]
    return Factors(*(np.stack(parts) for parts in zip(*samples, strict=True)))


def test_levels_are_the_specified_table() -> None:
    # SPEC section 3: mass, friction, damping, observation noise.
    names = ("body_mass", "friction", "damping")
    rows = [(*(s.widths.get(n, 0) for n in names), s.observation_noise) for s in LEVELS]
    assert rows == [
        (0, 0, 0, 0),
        (0.05, 0.10, 0.05, 0.005),
        (0.10, 0.30, 0.15, 0.02),
        (0.20, 0.50, 0.20, 0.03),
    ]
    assert LEVELS[0] == Level()
    assert all(set(level.widths) <= set(names) and not level.push_speed for level in LEVELS[:3])
    top = LEVELS[3]
    extras = ("ball_mass", "ball_friction", "foot_friction", "kp", "kd", "action_delay")
    assert [top.widths[name] for name in extras] == [0.20, 0.30, 0.50, 0.10, 0.10, 1]
    assert top.push_speed > 0


def test_level_zero_changes_nothing() -> None:
    factors = drawn(LEVELS[0])._asdict()
    assert (factors.pop("action_delay") == 0).all()
    for name, values in factors.items():
        assert (values == 1).all(), name


@pytest.mark.parametrize("level", [1, 2, 3])
def test_factors_fill_their_range(level: int) -> None:
    factors = drawn(LEVELS[level])
    widths = LEVELS[level].widths
    for name in set(DRAWS) - {"action_delay"}:
        off, width = np.abs(getattr(factors, name) - 1), widths.get(name, 0.0)
        assert off.max() <= width, name
        assert off.max() >= 0.9 * width, name
    assert set(np.unique(factors.action_delay)) == set(
        range(int(widths.get("action_delay", 0)) + 1)
    )


@pytest.mark.parametrize("delay", [2, 1.5, -1])
def test_a_delay_that_no_world_can_make_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match=r"action_delay is .*expected 0 or 1: worlds keep one"):
        sample(Level({"action_delay": delay}), BODIES, np.random.default_rng(0))


def test_every_robot_body_and_joint_has_its_own_factor() -> None:
    one = sample(LEVELS[3], BODIES, np.random.default_rng(1))
    assert len(np.unique(one.body_mass)) == BODIES
    assert len(np.unique(one.damping)) == 12
    assert one.kp != one.kd
    assert set(DRAWS) == set(Factors._fields)
