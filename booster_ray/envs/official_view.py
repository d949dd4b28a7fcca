"""A native world's frame as the official environment would tell it: observation and infos."""

from __future__ import annotations

from typing import Any

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import NO_CLOCK, OFFICIAL
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
    info: dict[str, Any] = {name: np.full(n, value) for name, value in _FIELD.items()}
    info["robot_quat"] = frame.imu_quat[:, [1, 2, 3, 0]].astype(np.float32)
    info["success"] = np.asarray(ball_in_goal(frame))
    for part in OFFICIAL.values():
        if part.infos:
            values = np.split(part.compute(frame, NO_CLOCK), len(part.infos), axis=-1)
            info |= dict(zip(part.infos, values, strict=True))
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
