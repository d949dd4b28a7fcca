"""What a simulator measures in a physics step, in the one form that the rules read."""

from __future__ import annotations

from typing import Any, NamedTuple

from booster_ray.soccer import game
from booster_ray.soccer.geometry import cross, rotate

Array = Any
"""A NumPy or JAX array. Rules ask the array for its namespace, so both work."""


class Frame(NamedTuple):
    """One instant of a batch of worlds, every array with the same leading dimensions ``...``.

    SI units, world frame unless said otherwise. As in the official environment, joint
    positions, joint velocities and all linear velocities are those after the step; positions
    of sites, orientations, sensors and contacts are those of the step's first half
    (``mj_step1``), 2 ms older.
    """

    task: Array
    """int32 (...): index into ``game.TASKS``."""
    joint_pos: Array
    """(..., 12) rad."""
    joint_vel: Array
    """(..., 12) rad/s."""
    imu_pos: Array
    """(..., 3) m, site ``robot_0:imu``."""
    imu_quat: Array
    """(..., 4) w x y z, body to world."""
    gyro: Array
    """(..., 3) rad/s, body frame."""
    accelerometer: Array
    """(..., 3) m/s², body frame, gravity included."""
    velocimeter: Array
    """(..., 3) m/s, body frame."""
    root_vel: Array
    """(..., 3) m/s of the imu site."""
    ball_pos: Array
    """(..., 3) m of the ball's site, which sits on its surface, not at its centre."""
    ball_vel: Array
    """(..., 3) m/s of that site."""
    ball_angvel: Array
    """(..., 3) rad/s."""
    ball_center_vel: Array
    """(..., 3) m/s of the ball's centre, which no official number is of."""
    root_angvel: Array
    """(..., 3) rad/s of the imu site."""
    keeper_pos: Array
    """(..., 2, 3) m of the keepers of team 0 and 1; the imu's where there is none."""
    keeper_vel: Array
    """(..., 2, 3) m/s; the robot's where there is none."""
    target_pos: Array
    """(..., 3) m: goal sphere (obstacle), target (kick_to_target), the imu's otherwise."""
    target_vel: Array
    """(..., 3) m/s; zero for a real target, the robot's where there is none."""
    defender_pos: Array
    """(..., 3, 3) m, absolute; the imu's three times where there are none."""
    foot_pos: Array
    """(..., 2, 3) m of the left and right foot sites."""
    foot_vel: Array
    """(..., 2, 3) m/s."""
    foot_contact: Array
    """bool (..., 2): the foot touches anything."""
    ball_contact: Array
    """bool (...): the robot touches the ball."""
    ball_blocked: Array
    """bool (...): the ball touches the keeper of team 0 or a defender."""
    ball_hits: Array
    """int32 (...): contacts begun between robot and ball since the reset."""
    torque: Array
    """(..., 12) N·m applied in the step."""


def make_frame(
    task: Array,
    target: Array,
    keeper_speed: Array,
    ball_quat: Array,
    ball_turn: Array,
    root_turn: Array,
    **measured: Array,
) -> Frame:
    """The frame of what a simulator measures; the rest of it follows from the task.

    Contacts between robot and ball are not counted yet: ``ball_hits`` is zero.

    Args:
        task: int32 (...).
        target: (..., 3) m; ignored in the goalie task, which has none.
        keeper_speed: (..., 2) m/s along y, of both keepers; ignored in the other tasks.
        ball_quat: (..., 4) w x y z, body to world.
        ball_turn: (..., 3) rad/s of the ball in its body frame, as MuJoCo's free joints have it.
        root_turn: (..., 3) rad/s of the robot's root in its body frame.
        measured: the other fields of :class:`Frame`.
    """
    xp = target.__array_namespace__()
    goalie = (task == game.GOALIE)[..., None]
    imu, root_vel = measured["imu_pos"], measured["root_vel"]
    still = xp.zeros_like(keeper_speed)
    # Orientations lag like the sites.
    ball_angvel = rotate(ball_quat, ball_turn)
    to_center = rotate(ball_quat, xp.asarray(game.BALL_CENTER, dtype=ball_quat.dtype))
    keeper_vel = xp.stack([still, keeper_speed, still], axis=-1)
    return Frame(
        task=task,
        keeper_vel=xp.where(goalie[..., None], keeper_vel, root_vel[..., None, :]),
        target_pos=xp.where(goalie, imu, target),
        target_vel=xp.where(goalie, root_vel, 0.0),
        root_angvel=rotate(measured["imu_quat"], root_turn),
        ball_angvel=ball_angvel,
        ball_center_vel=measured["ball_vel"] + cross(ball_angvel, to_center),
        ball_hits=xp.zeros(task.shape, dtype=xp.int32),
        **measured,
    )
