"""From a policy's action to joint torques."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array


class Gains(NamedTuple):
    """PD gains and limits, each of shape (..., 12) or (12,)."""

    default_pose: Array
    """rad; the joint target of a zero action."""
    action_scale: Array
    """rad of target offset per unit of action."""
    kp: Array
    """N·m/rad."""
    kd: Array
    """N·m·s/rad."""
    torque_limit: Array
    """N·m, ±."""


def leg_gains(
    default_pose: Sequence[float], action_scale: float, kp: Sequence[float], kd: Sequence[float]
) -> Gains:
    """Gains of two equal legs, each argument for one leg's 6 joints. Shapes: (12,)."""

    def both(leg: Sequence[float]) -> np.ndarray:
        return np.tile(np.asarray(leg, np.float64), 2)

    return Gains(
        default_pose=both(default_pose),
        action_scale=np.full(game.ACTION_SIZE, action_scale),
        kp=both(kp),
        kd=both(kd),
        torque_limit=np.array(game.TORQUE_LIMITS),
    )


def pd_target(action: Array, gains: Gains) -> Array:
    """Joint targets of actions in [-1, 1]. Shape: (..., 12) → (..., 12) rad."""
    return gains.default_pose + gains.action_scale * action


def pd_torque(target: Array, joint_pos: Array, joint_vel: Array, gains: Gains) -> Array:
    """Clipped PD torques, τ = kp (target - q) - kd q̇. Shapes: (..., 12) → (..., 12) N·m."""
    xp = joint_pos.__array_namespace__()
    torque = (target - joint_pos) * gains.kp - joint_vel * gains.kd
    return xp.clip(torque, -gains.torque_limit, gains.torque_limit)
