"""A native world's frame as the official environment would tell it: observation and infos."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.scoring import ball_in_goal

_FIELD = {
    "length": game.FIELD_HALF_LENGTH,
    "width": game.FIELD_HALF_WIDTH,
    "goal_width": game.GOAL_HALF_WIDTH,
    "goal_height": game.GOAL_HEIGHT,
    "goal_depth": game.GOAL_DEPTH,
}


def official_view(frame: Frame, task: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Observation (n, D) float32 and infos (n, …), batched as gymnasium's vector environments do.

    Infos are those of a reset, that is without ``reward_terms``, and the task's one-hot
    ``task_index``, which sai_rl adds. Source: the football environments of sai_mujoco.

    Args:
        frame: of NumPy arrays (n, …), all of ``task``.
        task: see ``game.TASKS``.
    """
    n = len(frame.task)
    imu, ball = frame.imu_pos, frame.ball_pos
    south = np.array([-game.FIELD_HALF_LENGTH, 0.0, 0.0])
    keeper_pos, keeper_vel = frame.keeper_pos, frame.keeper_vel
    info: dict[str, Any] = {name: np.full(n, value) for name, value in _FIELD.items()}
    info |= {
        "goal_team_0_rel_robot": south - imu,
        "goal_team_1_rel_robot": -south - imu,
        "goal_team_0_rel_ball": south - ball,
        "goal_team_1_rel_ball": -south - ball,
        "ball_xpos_rel_robot": ball - imu,
        "ball_velp_rel_robot": frame.ball_vel - frame.root_vel,
        "ball_velr_rel_robot": frame.ball_angvel - frame.root_angvel,
        "player_team": np.tile([1, 0], (n, 1)),
        "robot_accelerometer": frame.accelerometer.astype(np.float32),
        "robot_gyro": frame.gyro.astype(np.float32),
        "robot_velocimeter": frame.velocimeter.astype(np.float32),
        "robot_quat": frame.imu_quat[:, [1, 2, 3, 0]].astype(np.float32),
        "goalkeeper_team_0_xpos_rel_robot": keeper_pos[:, 0] - imu,
        "goalkeeper_team_0_velp_rel_robot": keeper_vel[:, 0] - frame.root_vel,
        "goalkeeper_team_1_xpos_rel_robot": keeper_pos[:, 1] - imu,
        "goalkeeper_team_1_velp_rel_robot": keeper_vel[:, 1] - frame.root_vel,
        "target_xpos_rel_robot": frame.target_pos - imu,
        "target_velp_rel_robot": frame.target_vel - frame.root_vel,
        "defender_xpos": frame.defender_pos.reshape(n, -1),
        "success": np.asarray(ball_in_goal(frame)),
        "task_index": np.tile((np.array(game.TASKS) == task).astype(np.float32), (n, 1)),
    }
    parts = [frame.joint_pos, frame.joint_vel, *(info[name] for name in OBSERVED[task])]
    return np.concatenate([np.asarray(part, np.float32) for part in parts], axis=1), info


_BALL = ("ball_xpos_rel_robot", "ball_velp_rel_robot", "ball_velr_rel_robot")
_GOAL = ("goal_team_0_rel_robot", "goal_team_0_rel_ball")
_KEEPER = ("goalkeeper_team_0_xpos_rel_robot", "goalkeeper_team_0_velp_rel_robot")
_TARGET = ("target_xpos_rel_robot", "target_velp_rel_robot")

OBSERVED: dict[str, tuple[str, ...]] = {
    "goalie": (*_BALL, *_GOAL, *_KEEPER),
    "obstacle": (*_BALL, *_GOAL, *_TARGET, "defender_xpos"),
    "kick_to_target": (*_BALL, *_TARGET),
}
"""What follows the joints in each task's official observation, by the names of infos."""
