"""The policy's 89-number observation, as the competition's preprocessor defines it.

Order: qpos 12, qvel 12, projected gravity 3, gyro 3, accelerometer 3, velocimeter 3,
goals 12, ball 9, team 2, keepers 12, target 6, defenders 9, task one-hot 3.
Source: the preprocessor of ArenaX-Labs/booster_soccer_showdown (training_scripts/main.py).
"""

from __future__ import annotations

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import rotate_inverse


def projected_gravity(imu_quat: Array) -> Array:
    """Unit gravity in the body frame; (0, 0, -1) when upright. Shape: (..., 4) → (..., 3)."""
    xp = imu_quat.__array_namespace__()
    down = xp.asarray([0.0, 0.0, -1.0], dtype=imu_quat.dtype)
    return rotate_inverse(imu_quat, xp.broadcast_to(down, (*imu_quat.shape[:-1], 3)))


def observe(frame: Frame) -> Array:
    """Observation of every world, float32 of shape (..., 89)."""
    xp = frame.joint_pos.__array_namespace__()
    south = xp.asarray([-game.FIELD_HALF_LENGTH, 0.0, 0.0], dtype=frame.imu_pos.dtype)
    team = xp.asarray([1.0, 0.0], dtype=frame.imu_pos.dtype)
    batch = frame.task.shape
    imu, ball = frame.imu_pos, frame.ball_pos
    flat = (*batch, -1)
    parts = [
        frame.joint_pos,
        frame.joint_vel,
        # Official infos tell the orientation in float32; so equal states look equal to the bit.
        projected_gravity(xp.astype(frame.imu_quat, xp.float32)),
        frame.gyro,
        frame.accelerometer,
        frame.velocimeter,
        south - imu,
        -south - imu,
        south - ball,
        -south - ball,
        ball - imu,
        frame.ball_vel - frame.root_vel,
        frame.ball_angvel - frame.root_angvel,
        xp.broadcast_to(team, (*batch, 2)),
        # One row a keeper: position, then velocity.
        xp.reshape(
            xp.concat(
                [
                    frame.keeper_pos - imu[..., None, :],
                    frame.keeper_vel - frame.root_vel[..., None, :],
                ],
                axis=-1,
            ),
            flat,
        ),
        frame.target_pos - imu,
        frame.target_vel - frame.root_vel,
        xp.reshape(frame.defender_pos, flat),
        frame.task[..., None] == xp.arange(len(game.TASKS)),
    ]
    return xp.concat([xp.astype(part, xp.float32) for part in parts], axis=-1)
