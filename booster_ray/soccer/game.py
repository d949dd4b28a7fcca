"""Tasks and constants of the game, as sai_mujoco 0.1.30 defines them.

Sources: ``sai_mujoco/envs/football/v0/{config.yaml,football.py,penalty_kick.py,target_hit.py}``
and ``sai_mujoco/robots/t1/t1_v1.py``. Parity tests compare them with the installed package.
"""

TASKS = ("goalie", "obstacle", "kick_to_target")
"""Task names; a task's index here is its place in the observation's one-hot."""

GOALIE, OBSTACLE, KICK_TO_TARGET = range(3)

ENV_IDS = {
    "goalie": "LowerT1GoaliePenaltyKick-v0",
    "obstacle": "LowerT1ObstaclePenaltyKick-v0",
    "kick_to_target": "LowerT1KickToTarget-v0",
}
"""Gymnasium ids of the official environments."""

TIMESTEP = 0.002
"""Seconds per physics step, which is also one official environment step."""

EPISODE_STEPS = 5000
"""Physics steps until the official TimeLimit truncates an episode (10 s)."""

FIELD_HALF_LENGTH = 10.97
FIELD_HALF_WIDTH = 6.87
"""Metres from the centre to the lines; beyond them the ball is offside."""

GOAL_HALF_WIDTH = 1.6
GOAL_HEIGHT = 1.9
GOAL_DEPTH = 1.6
"""Metres; the goal mouth is the plane x = ±FIELD_HALF_LENGTH."""

PENALTY_BALL_X = -8.77
PENALTY_ROBOT_OFFSET = 2.0
PENALTY_YAW = 3.14
"""Penalty spawn: ball on the spot, robot 2 m behind it, facing -x (3.14, not π)."""

BALL_CENTER = (0.0, 0.0, 0.11)
"""Metres from the ball's site, the origin of its body, to its centre (sai_mujoco's model)."""

OBSTACLE_GOAL_RADIUS = 0.3
TARGET_RADIUS = 0.4
"""Metres from the ball's site to the target that count as success."""

FALL_HEIGHT = 0.4
"""The robot has fallen when its imu site is at or below this height (m)."""

KEEPER_AMPLITUDE = GOAL_HALF_WIDTH - 0.6
KEEPER_FREQUENCY = 0.3
"""The keeper's y = amplitude · sin(2π · frequency · t), m and Hz."""

JOINTS = tuple(
    f"{side}_{joint}"
    for side in ("Left", "Right")
    for joint in ("Hip_Pitch", "Hip_Roll", "Hip_Yaw", "Knee_Pitch", "Ankle_Pitch", "Ankle_Roll")
)
"""The 12 actuated joints in the order of qpos, ctrl, observation and action."""

TORQUE_LIMITS = (45.0, 45.0, 30.0, 65.0, 24.0, 15.0) * 2
"""N·m per joint, ±."""

JOINT_RANGES = (
    *((-1.8, 1.57), (-0.3, 1.57), (-1.0, 1.0), (0.0, 2.34), (-0.87, 0.35), (-0.44, 0.44)),
    *((-1.8, 1.57), (-1.57, 0.3), (-1.0, 1.0), (0.0, 2.34), (-0.87, 0.35), (-0.44, 0.44)),
)
"""Joint limits in rad (robot_lower.xml)."""

ACTION_SIZE = len(JOINTS)
OBSERVATION_SIZE = 89
