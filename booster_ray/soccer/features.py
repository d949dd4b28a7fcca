"""What a policy may see beyond the 89 numbers, all of it computable from official infos.

The official observation gives positions in the world frame and hides the heading, so a network
must learn to turn vectors by an angle it cannot see. These features say the same relative to
the robot. Each is named in a config and appended in the order given there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import norm


class Clock(NamedTuple):
    """What a preprocessor may keep between steps."""

    phase: Array
    """(...) cycles in [0, 1): the gait clock."""
    previous_action: Array
    """(..., 12) in [-1, 1]."""


def gait_phase(steps: Array, frequency: float) -> Array:
    """Phase in [0, 1) of a clock of ``frequency`` Hz after int (...) physics steps."""
    cycles = steps * (game.TIMESTEP * frequency)
    return cycles - cycles.__array_namespace__().floor(cycles)


def heading(quat: Array) -> Array:
    """Unit vector of the body's x axis on the ground. Shape: (..., 4) → (..., 2)."""
    xp = quat.__array_namespace__()
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    forward = xp.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (w * z + x * y)], axis=-1)
    return forward / norm(forward, eps=1e-12)[..., None]


def aim(frame: Frame) -> Array:
    """Where the ball should go, m: the target, or the middle of the goal line. (..., 2)."""
    xp = frame.ball_pos.__array_namespace__()
    goal = xp.asarray([-game.FIELD_HALF_LENGTH, 0.0], dtype=frame.ball_pos.dtype)
    goalie = (frame.task == game.GOALIE)[..., None]
    return xp.where(goalie, goal, frame.target_pos[..., :2])


def _turned(vector: Array, forward: Array) -> Array:
    """World (..., 2) in the frame whose x axis is ``forward``."""
    xp = vector.__array_namespace__()
    x = vector[..., 0] * forward[..., 0] + vector[..., 1] * forward[..., 1]
    y = vector[..., 1] * forward[..., 0] - vector[..., 0] * forward[..., 1]
    return xp.stack([x, y], axis=-1)


def egocentric(frame: Frame, _: Clock) -> Array:
    """Ball, aim and keeper seen from the robot's heading. (..., 9).

    Ball from the imu (2), ball velocity over the ground (2), unit vector from ball to aim (2)
    and its length over 5 m (1), keeper from the ball (2; zero where there is none).
    """
    xp = frame.ball_pos.__array_namespace__()
    forward = heading(frame.imu_quat)
    ball = frame.ball_pos[..., :2]
    way = aim(frame) - ball
    length = norm(way, eps=1e-12)[..., None]
    keeper = frame.keeper_pos[..., 0, :2] - ball
    keeper = xp.where((frame.task == game.GOALIE)[..., None], keeper, 0 * keeper)
    return xp.concat(
        [
            _turned(ball - frame.imu_pos[..., :2], forward),
            _turned(frame.ball_vel[..., :2], forward),
            _turned(way / length, forward),
            length / 5.0,
            _turned(keeper, forward),
        ],
        axis=-1,
    )


def clock(_: Frame, kept: Clock) -> Array:
    """Sine and cosine of the gait clock. (..., 2)."""
    xp = kept.phase.__array_namespace__()
    angle = 2.0 * math.pi * kept.phase
    return xp.stack([xp.sin(angle), xp.cos(angle)], axis=-1)


def previous_action(_: Frame, kept: Clock) -> Array:
    """The last action. (..., 12)."""
    return kept.previous_action


class Feature(NamedTuple):
    """One appendable part of the observation."""

    size: int
    measured: bool
    """Whether sensors tell it, so that observation noise reaches it."""
    compute: Callable[[Frame, Clock], Array]


FEATURES = {
    "egocentric": Feature(9, True, egocentric),
    "clock": Feature(2, False, clock),
    "previous_action": Feature(game.ACTION_SIZE, False, previous_action),
}
"""Features by the name that configs use."""


def size(names: Sequence[str]) -> int:
    """Numbers in an observation with the named features; raises KeyError for an unknown one."""
    return game.OBSERVATION_SIZE + sum(FEATURES[name].size for name in names)


def measured(names: Sequence[str]) -> list[bool]:
    """Which of the observation's numbers sensors tell, and noise reaches."""
    official = game.OBSERVATION_SIZE - len(game.TASKS)
    flags = [True] * official + [False] * len(game.TASKS)
    for name in names:
        flags += [FEATURES[name].measured] * FEATURES[name].size
    return flags


def append(observation: Array, frame: Frame, kept: Clock, names: Sequence[str]) -> Array:
    """The official observation (..., 89) and the named features, float32 (..., size(names))."""
    xp = observation.__array_namespace__()
    extra = [xp.astype(FEATURES[name].compute(frame, kept), xp.float32) for name in names]
    return xp.concat([observation, *extra], axis=-1) if extra else observation
