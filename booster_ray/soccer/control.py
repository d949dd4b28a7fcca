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
    default_pose: Sequence[float],
    action_scale: float,
    kp: Sequence[float],
    kd: Sequence[float],
    action_bounds: str = "uniform",
) -> Gains:
    """Gains of two equal legs, each sequence for one leg's 6 joints. Shapes: (12,).

    Args:
        default_pose: rad.
        action_scale: rad; of ``joint_limits`` a share of each joint's own reach.
        kp: N·m/rad.
        kd: N·m·s/rad.
        action_bounds: ``uniform``, or ``joint_limits``: an action of 1 moves a joint's target to
            the farther of its limits (Seo et al. 2025, "Learning Sim-to-Real Humanoid Locomotion
            in 15 Minutes").
    """

    def both(leg: Sequence[float]) -> np.ndarray:
        return np.tile(np.asarray(leg, np.float64), 2)

    pose, reach = both(default_pose), np.full(game.ACTION_SIZE, action_scale)
    if action_bounds == "joint_limits":
        low, high = np.array(game.JOINT_RANGES).T
        reach *= np.maximum(high - pose, pose - low)
    return Gains(
        default_pose=pose,
        action_scale=reach,
        kp=both(kp),
        kd=both(kd),
        torque_limit=np.array(game.TORQUE_LIMITS),
    )


def pd_target(action: Array, gains: Gains) -> Array:
    """Joint targets of actions in [-1, 1]. Shape: (..., 12) → (..., 12) rad."""
    return gains.default_pose + gains.action_scale * action


def pd_action(target: Array, gains: Gains) -> Array:
    """Actions of joint targets: what :func:`pd_target` takes back. (..., 12) rad → (..., 12)."""
    return (target - gains.default_pose) / gains.action_scale


def pd_torque(target: Array, joint_pos: Array, joint_vel: Array, gains: Gains) -> Array:
    """Clipped PD torques, τ = kp (target - q) - kd q̇. Shapes: (..., 12) → (..., 12) N·m."""
    xp = joint_pos.__array_namespace__()
    torque = (target - joint_pos) * gains.kp - joint_vel * gains.kd
    return xp.clip(torque, -gains.torque_limit, gains.torque_limit)
