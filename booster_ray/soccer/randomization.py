"""Domain randomization, levels 0-3, as data.

A level gives half-widths: a quantity is multiplied by 1 + U(-w, w), drawn at every reset. The
contact friction that counts is MuJoCo's element-wise maximum over the two geoms, so a friction
factor must reach every geom of the pair; the world sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array


class Level(NamedTuple):
    """Half-widths of one level; 0 leaves the quantity as it is."""

    mass: float = 0.0
    """Mass and inertia of each robot body."""
    friction: float = 0.0
    """Sliding friction of all contacts."""
    damping: float = 0.0
    """Joint damping and dry friction (the official joints have frictionloss 0.1, damping 0)."""
    observation_noise: float = 0.0
    """Standard deviation of Gaussian noise added to the observation (not a factor)."""
    ball_mass: float = 0.0
    ball_friction: float = 0.0
    """Sliding friction of the ball's contacts, on top of ``friction``."""
    foot_friction: float = 0.0
    """Sliding friction of the feet's contacts, on top of ``friction``."""
    gains: float = 0.0
    """PD gains kp and kd, one factor each."""
    push_speed: float = 0.0
    """Largest horizontal velocity step (m/s) given to the trunk, U(0, push_speed)."""
    push_interval: float = 5.0
    """Mean seconds between pushes."""
    action_delay: int = 0
    """Largest whole number of control steps by which actions come late."""


LEVELS = (
    Level(),
    Level(mass=0.05, friction=0.10, damping=0.05, observation_noise=0.005),
    Level(mass=0.10, friction=0.30, damping=0.15, observation_noise=0.02),
    Level(
        mass=0.20,
        friction=0.50,
        damping=0.20,
        observation_noise=0.03,
        ball_mass=0.20,
        ball_friction=0.30,
        foot_friction=0.50,
        gains=0.10,
        push_speed=0.5,
        action_delay=1,
    ),
)
"""SPEC section 3; push size and interval are ours (mujoco_playground pushes at 0.1-2 m/s)."""


class Factors(NamedTuple):
    """One reset's draw for a batch of worlds; every factor is 1 at level 0."""

    body_mass: Array
    """(..., bodies)."""
    friction: Array
    """(...)."""
    ball_friction: Array
    foot_friction: Array
    damping: Array
    """(..., 12)."""
    ball_mass: Array
    kp: Array
    kd: Array
    action_delay: Array
    """int (...), control steps."""


def sample(level: Level, bodies: int, rng: np.random.Generator) -> Factors:
    """Draw one world's factors for a robot of ``bodies`` bodies."""

    def factor(half_width: float, *shape: int) -> Array:
        return 1.0 + rng.uniform(-half_width, half_width, shape)

    return draw(level, bodies, factor, lambda end: rng.integers(0, end))


def draw(
    level: Level,
    bodies: int,
    factor: Callable[..., Array],
    below: Callable[[int], Array],
) -> Factors:
    """What a level randomizes, drawn in a fixed order by the caller's generator.

    ``factor(half_width, *shape)`` gives 1 + U(-half_width, half_width); ``below(end)`` an integer
    in [0, end).
    """
    return Factors(
        body_mass=factor(level.mass, bodies),
        friction=factor(level.friction),
        ball_friction=factor(level.ball_friction),
        foot_friction=factor(level.foot_friction),
        damping=factor(level.damping, game.ACTION_SIZE),
        ball_mass=factor(level.ball_mass),
        kp=factor(level.gains),
        kd=factor(level.gains),
        action_delay=below(level.action_delay + 1),
    )
