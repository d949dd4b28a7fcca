"""Dense reward terms for training; the sum of ``weight · term`` is the reward of a control step.

Terms are magnitudes; a weight's sign makes it a reward or a penalty. Sources are named where a
term is common practice: booster_gym (BoosterRobotics) and mujoco_playground's T1 joystick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import norm
from booster_ray.soccer.observation import projected_gravity
from booster_ray.soccer.scoring import fallen, official_score

STANDING_HEIGHT = 0.66
"""Metres of the imu above the ground in the default (bent-knee) pose."""

APPROACH_SPEED = 0.8
"""m/s towards the ball beyond which approaching pays no more."""


class Moment(NamedTuple):
    """Everything a reward term may look at, for one control step of a batch of worlds."""

    frame: Frame
    action: Array
    """(..., 12) in [-1, 1]."""
    previous_action: Array
    """(..., 12)."""
    default_pose: Array
    """(12,) rad."""
    ended: Array
    """bool (...): the official episode ends in this step, by termination or time."""


def alive(m: Moment) -> Array:
    """1 while the robot has not fallen."""
    return _number(~fallen(m.frame), m)


def upright(m: Moment) -> Array:
    """1 when the trunk is vertical, about 0.5 at 24°; exp(-4 |g_xy|²) of projected gravity."""
    xp = _xp(m)
    g = projected_gravity(m.frame.imu_quat)
    return xp.exp(-4.0 * (g[..., 0] ** 2 + g[..., 1] ** 2))


def height(m: Moment) -> Array:
    """1 at the standing height, 0.37 at 10 cm from it."""
    return _xp(m).exp(-(((m.frame.imu_pos[..., 2] - STANDING_HEIGHT) / 0.1) ** 2))


def approach(m: Moment) -> Array:
    """Horizontal speed towards the ball over APPROACH_SPEED, in [-1, 1]; 1 once it was touched."""
    xp = _xp(m)
    to_ball = (m.frame.ball_pos - m.frame.imu_pos)[..., :2]
    direction = to_ball / (norm(to_ball, eps=1e-6)[..., None])
    speed = xp.sum(m.frame.root_vel[..., :2] * direction, axis=-1)
    return xp.where(m.frame.ball_hits > 0, 1.0, xp.clip(speed / APPROACH_SPEED, -1.0, 1.0))


def ball_velocity(m: Moment) -> Array:
    """Ball speed (m/s) towards the goal line, or towards the target where there is one."""
    xp = _xp(m)
    to_target = (m.frame.target_pos - m.frame.ball_pos)[..., :2]
    direction = to_target / (norm(to_target, eps=1e-6)[..., None])
    towards = xp.sum(m.frame.ball_vel[..., :2] * direction, axis=-1)
    return xp.where(m.frame.task == game.GOALIE, -m.frame.ball_vel[..., 0], towards)


def ball_contact(m: Moment) -> Array:
    """1 while the robot touches the ball."""
    return _number(m.frame.ball_contact, m)


def pose(m: Moment) -> Array:
    """1 in the default pose; exp(-Σ (q - q₀)²)."""
    xp = _xp(m)
    return xp.exp(-xp.sum((m.frame.joint_pos - m.default_pose) ** 2, axis=-1))


def torque(m: Moment) -> Array:
    """Mean squared torque over its limit (booster_gym's torque penalty, made unitless)."""
    xp = _xp(m)
    limit = xp.asarray(game.TORQUE_LIMITS, dtype=m.frame.torque.dtype)
    return xp.mean((m.frame.torque / limit) ** 2, axis=-1)


def smoothness(m: Moment) -> Array:
    """Mean squared change of the action (the usual action-rate penalty)."""
    return _xp(m).mean((m.action - m.previous_action) ** 2, axis=-1)


def joint_velocity(m: Moment) -> Array:
    """Mean squared joint velocity, (rad/s)²."""
    return _xp(m).mean(m.frame.joint_vel**2, axis=-1)


def joint_limits(m: Moment) -> Array:
    """Sum of the radians by which joints enter the last 5 % of their range."""
    xp = _xp(m)
    low, high = (
        xp.asarray([r[i] for r in game.JOINT_RANGES], dtype=m.frame.joint_pos.dtype) for i in (0, 1)
    )
    soft = 0.05 * (high - low)
    q = m.frame.joint_pos
    over = xp.maximum(low + soft - q, 0 * q) + xp.maximum(q - high + soft, 0 * q)
    return xp.sum(over, axis=-1)


def foot_slip(m: Moment) -> Array:
    """Squared horizontal speed (m²/s²) of feet in contact, summed (mujoco_playground)."""
    xp = _xp(m)
    speed2 = xp.sum(m.frame.foot_vel[..., :2] ** 2, axis=-1)
    return xp.sum(xp.where(m.frame.foot_contact, speed2, 0 * speed2), axis=-1)


def vertical_velocity(m: Moment) -> Array:
    """Squared vertical speed of the trunk, m²/s²."""
    return m.frame.root_vel[..., 2] ** 2


def official(m: Moment) -> Array:
    """The official score, paid in the step in which the episode ends."""
    score = official_score(m.frame)
    return _xp(m).where(m.ended, score, 0 * score)


def fall(m: Moment) -> Array:
    """1 in the step in which the robot falls."""
    return _number(fallen(m.frame), m)


TERMS: dict[str, Callable[[Moment], Array]] = {
    term.__name__: term
    for term in (
        alive,
        upright,
        height,
        approach,
        ball_velocity,
        ball_contact,
        pose,
        torque,
        smoothness,
        joint_velocity,
        joint_limits,
        foot_slip,
        vertical_velocity,
        official,
        fall,
    )
}
"""Every dense term by the name that configs use."""


def reward(moment: Moment, weights: Mapping[str, float]) -> Array:
    """Weighted sum of the terms whose weight is not zero. Shape: (...).

    Raises:
        KeyError: a weight names no term.
    """
    total = 0.0 * moment.frame.imu_pos[..., 0]
    for name, weight in weights.items():
        term = TERMS[name]
        if weight:
            total = total + weight * term(moment)
    return total


def _xp(m: Moment) -> Array:
    return m.frame.imu_pos.__array_namespace__()


def _number(flag: Array, m: Moment) -> Array:
    return _xp(m).astype(flag, m.frame.imu_pos.dtype)
