"""Where robot, ball, target and defenders stand at a reset.

:func:`draw` consumes a NumPy generator exactly as ``env.reset(seed=…)`` of sai_mujoco does, so
that equal seeds give equal spawns; :func:`place` turns the draws into positions, for NumPy and
JAX alike. Sources: ``_change_team``, ``_sample_target`` and ``sample_*`` in sai_mujoco's
football environments.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array
from booster_ray.soccer.geometry import norm

DRAWS = 96
"""Uniform numbers a spawn may use: 3, then rejection loops. A ball towards the centre is never
refused and a target at most half the time, so running out of its 25 candidates has a probability
below 1e-7; the first candidate is then taken."""

BALL_CANDIDATES = 16
MARGIN = 0.5
BALL_DISTANCE = (0.5, 2.0)
TARGET_OFFSET = (2.0, 3.5)
LANES = tuple(
    -(game.GOAL_HALF_WIDTH - 0.04) + i * (2 * (game.GOAL_HALF_WIDTH - 0.04) / 8)
    for i in range(1, 9, 2)
)
"""The four y positions (m) that the three defenders and the goal sphere share."""
NEAREST = 0.35
"""Metres between the robot's root and the ball's centre: a little more than they take."""
SPHERE_HEIGHT = (0.44, game.GOAL_HEIGHT - 0.5)


DRAWN: dict[str, tuple[str, ...]] = {
    "goalie": (),
    "obstacle": ("target", "defender_y"),
    "kick_to_target": ("robot_xy", "robot_yaw", "ball_xy", "target"),
}
"""Which fields of :class:`Spawn` are drawn at random in each task, and read in it. Of what Goalie
draws nothing is read, so all its episodes of one policy are equal."""

DETERMINISTIC = frozenset(task for task, drawn in DRAWN.items() if not drawn)
"""Tasks that always begin in the same way."""


class Draws(NamedTuple):
    """Random numbers of one reset."""

    uniform: Array
    """(..., DRAWS) in [0, 1)."""
    lanes: Array
    """(..., 4): a permutation of ``LANES``."""


class Spawn(NamedTuple):
    """Positions at a reset, m and rad, world frame."""

    robot_xy: Array
    """(..., 2)."""
    robot_yaw: Array
    """(...)."""
    ball_xy: Array
    """(..., 2)."""
    target: Array
    """(..., 3): obstacle: offset of the goal sphere in its body; kick_to_target: x, y, 0."""
    defender_y: Array
    """(..., 3)."""


def draw(task: int, rng: np.random.Generator) -> Draws:
    """Draw a reset's random numbers in the official order (the first is the ground's colour)."""
    lanes = np.array(LANES)
    if task != game.OBSTACLE:
        return Draws(rng.random(DRAWS), lanes)
    first = rng.random()
    shuffled = list(LANES)
    rng.shuffle(shuffled)
    uniform = np.full(DRAWS, first)
    uniform[1] = rng.random()
    return Draws(uniform, np.array(shuffled))


def _between(u: Array, low: float, high: float) -> Array:
    return low + (high - low) * u


def place(task: int, draws: Draws) -> Spawn:
    """Positions for draws of one task. Shapes: (..., DRAWS) → (..., 2) and so on."""
    xp = draws.uniform.__array_namespace__()
    if task == game.KICK_TO_TARGET:
        return _place_kick(draws)
    zero = xp.zeros_like(draws.uniform[..., 0])
    height = _between(draws.uniform[..., 1], *SPHERE_HEIGHT)
    return Spawn(
        robot_xy=xp.stack(
            [zero + (game.PENALTY_BALL_X + game.PENALTY_ROBOT_OFFSET), zero], axis=-1
        ),
        robot_yaw=zero + game.PENALTY_YAW,
        ball_xy=xp.stack([zero + game.PENALTY_BALL_X, zero], axis=-1),
        target=xp.stack([zero, draws.lanes[..., 3], height], axis=-1),
        defender_y=draws.lanes[..., :3],
    )


def nearer(placed: Spawn, share: Array | float, uniform: Array) -> Spawn:
    """Of a share of spawns the robot stands nearer to the ball, on its way there, as it faces.

    A training aid, and none of the official game: a kick is then practised without the walk
    before it (start states near the goal, as in Florensa et al. 2017, "Reverse Curriculum
    Generation for Reinforcement Learning").

    Args:
        placed: the official spawn; its target and defenders stay.
        share: of spawns that are changed, 0 to 1.
        uniform: (..., 2) in [0, 1): whether, and how near; distances from ``NEAREST`` to the
            official one are equally likely.
    """
    xp = placed.robot_xy.__array_namespace__()
    away = placed.robot_xy - placed.ball_xy
    distance = norm(away, eps=1e-6)
    to_be = NEAREST + uniform[..., 1] * (distance - NEAREST)  # of those that are farther
    chosen = (uniform[..., 0] < share) & (distance > NEAREST)
    moved = placed.ball_xy + away * (to_be / distance)[..., None]
    return placed._replace(robot_xy=xp.where(chosen[..., None], moved, placed.robot_xy))


def _place_kick(draws: Draws) -> Spawn:
    xp = draws.uniform.__array_namespace__()
    u = draws.uniform
    half_x, half_y = game.FIELD_HALF_LENGTH - MARGIN, game.FIELD_HALF_WIDTH - MARGIN
    x, y = _between(u[..., 1], -half_x, half_x), _between(u[..., 2], -half_y, half_y)
    heading = xp.atan2(-y, -x)

    distance = _between(u[..., 3 : 3 + BALL_CANDIDATES], *BALL_DISTANCE)
    ball_x = x[..., None] + distance * xp.cos(heading)[..., None]
    ball_y = y[..., None] + distance * xp.sin(heading)[..., None]
    inside = (xp.abs(ball_x) <= half_x) & (xp.abs(ball_y) <= half_y)
    first = xp.argmax(xp.astype(inside, xp.int32), axis=-1)[..., None]
    ball = [xp.take_along_axis(c, first, axis=-1)[..., 0] for c in (ball_x, ball_y)]

    # The target's candidates are triples that begin right after the ball's last draw.
    count = (DRAWS - 3 - BALL_CANDIDATES) // 3
    start = 4 + first + 3 * xp.arange(count)
    offset = _between(xp.take_along_axis(u, start, axis=-1), *TARGET_OFFSET)
    flip = xp.take_along_axis(u, start + 1, axis=-1) > 0.5
    target_y = y[..., None] + xp.where(flip, -offset, offset)
    target_x = _between(xp.take_along_axis(u, start + 2, axis=-1), -half_x, half_x)
    fits = xp.argmax(xp.astype(xp.abs(target_y) <= half_y, xp.int32), axis=-1)[..., None]
    target = [xp.take_along_axis(c, fits, axis=-1)[..., 0] for c in (target_x, target_y)]
    return Spawn(
        robot_xy=xp.stack([x, y], axis=-1),
        robot_yaw=heading,
        ball_xy=xp.stack(ball, axis=-1),
        target=xp.stack([*target, xp.zeros_like(x)], axis=-1),
        defender_y=draws.lanes[..., :3],
    )
