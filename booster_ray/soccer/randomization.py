"""Domain randomization, levels 0-3, as data: a row of :class:`Factors` is a randomized quantity.

A row gives a half-width for each level: the quantity is multiplied by 1 + U(-w, w), drawn at every
reset. The contact friction that counts is MuJoCo's element-wise maximum over the two geoms, so a
friction factor must reach every geom of the pair; the world sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple, get_type_hints

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array


class Draw(NamedTuple):
    """How a quantity is drawn."""

    widths: tuple[float, float, float, float]
    """By level: half-widths of the factor; of a whole number its largest value."""
    each: Literal["world", "body", "joint"] = "world"
    """What has a factor of its own."""
    whole: bool = False
    """A whole number from 0 on, in place of a factor around 1."""


class Factors(NamedTuple):
    """One reset's draw for a batch of worlds, in this order; every factor is 1 at level 0."""

    body_mass: Annotated[Array, Draw((0.0, 0.05, 0.10, 0.20), each="body")]
    """Mass and inertia of each robot body. (..., bodies)."""
    friction: Annotated[Array, Draw((0.0, 0.10, 0.30, 0.50))]
    """Sliding friction of all contacts. (...)."""
    ball_friction: Annotated[Array, Draw((0.0, 0.0, 0.0, 0.30))]
    """Sliding friction of the ball's contacts, on top of ``friction``."""
    foot_friction: Annotated[Array, Draw((0.0, 0.0, 0.0, 0.50))]
    """Sliding friction of the feet's contacts, on top of ``friction``."""
    damping: Annotated[Array, Draw((0.0, 0.05, 0.15, 0.20), each="joint")]
    """Joint damping and dry friction (the official joints have frictionloss 0.1, damping 0).
    (..., 12)."""
    ball_mass: Annotated[Array, Draw((0.0, 0.0, 0.0, 0.20))]
    kp: Annotated[Array, Draw((0.0, 0.0, 0.0, 0.10))]
    """PD stiffness."""
    kd: Annotated[Array, Draw((0.0, 0.0, 0.0, 0.10))]
    """PD damping."""
    action_delay: Annotated[Array, Draw((0, 0, 0, 1), whole=True)]
    """int (...): control steps by which actions come late."""


DRAWS: dict[str, Draw] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Factors, include_extras=True).items()
}
"""The rows of :class:`Factors` by name."""


class Level(NamedTuple):
    """What one level randomizes; a quantity that is not named stays as it is."""

    widths: Mapping[str, float] = {}
    """See :class:`Draw`, by the names of :class:`Factors`."""
    observation_noise: float = 0.0
    """Standard deviation of Gaussian noise in the joints' angles, rad; that of other numbers is in
    proportion, each in its unit (:func:`booster_ray.soccer.observation.noise`)."""
    push_speed: float = 0.0
    """Largest horizontal velocity step (m/s) given to the trunk, U(0, push_speed)."""
    push_interval: float = 5.0
    """Mean seconds between pushes."""


_NOISE, _PUSH = (0.0, 0.005, 0.02, 0.03), (0.0, 0.0, 0.0, 0.5)

LEVELS = tuple(
    Level(
        {name: row.widths[i] for name, row in DRAWS.items() if row.widths[i]}, _NOISE[i], _PUSH[i]
    )
    for i in range(4)
)
"""SPEC section 3; push size and interval are ours (mujoco_playground pushes at 0.1-2 m/s)."""


def sample(level: Level, bodies: int, rng: np.random.Generator) -> Factors:
    """Draw one world's factors for a robot of ``bodies`` bodies."""

    def factor(half_width: float, *shape: int) -> Array:
        return 1.0 + rng.uniform(-half_width, half_width, shape)

    return draw(widths_of(level), bodies, factor, lambda most: rng.integers(0, most + 1))


def draw(
    widths: Mapping[str, Array],
    bodies: int,
    factor: Callable[..., Array],
    upto: Callable[[Array], Array],
) -> Factors:
    """What a level randomizes, drawn in a fixed order by the caller's generator.

    ``widths``: of :func:`widths_of`; they may be traced. ``factor(half_width, *shape)`` gives
    1 + U(-half_width, half_width); ``upto(most)`` an integer from 0 to ``most``.
    """
    shapes = {"world": (), "body": (bodies,), "joint": (game.ACTION_SIZE,)}
    return Factors(
        *(
            upto(widths[name]) if row.whole else factor(widths[name], *shapes[row.each])
            for name, row in DRAWS.items()
        )
    )


def widths_of(level: Level) -> dict[str, float]:
    """The half-width of every row, by name; of a whole number its largest value, an int.

    Raises:
        ValueError: a delay of more control steps than the one action that worlds remember.
    """
    widths = {}
    for name, row in DRAWS.items():
        width = level.widths.get(name, 0.0)
        if row.whole and width not in (0, 1):
            raise ValueError(f"{name} is {width:g}, expected 0 or 1: worlds keep one action")
        widths[name] = int(width) if row.whole else width
    return widths
