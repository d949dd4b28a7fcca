"""Hand-made and random inputs of reward terms, for tests of the rules."""

from typing import Any

import numpy as np

from booster_ray.soccer import control, game, rewards
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.rewards import RewardInput

TRIPLES = (
    "imu_pos", "gyro", "accelerometer", "velocimeter", "root_vel", "ball_pos", "ball_vel",
    "ball_angvel", "ball_center_vel", "root_angvel", "target_pos", "target_vel",
)  # fmt: skip
SHAPES = {
    **dict.fromkeys(TRIPLES, (3,)),
    **dict.fromkeys(("joint_pos", "joint_vel", "torque"), (12,)),
    **dict.fromkeys(("keeper_pos", "keeper_vel", "foot_pos", "foot_vel"), (2, 3)),
    "imu_quat": (4,),
    "defender_pos": (3, 3),
}
BATCH = 64
POSE = np.tile([-0.2, 0.0, 0.0, 0.4, -0.25, 0.0], 2).astype(np.float32)
GAINS = control.Gains(
    default_pose=POSE,
    action_scale=np.full(12, 0.5, np.float32),
    kp=np.full(12, 200, np.float32),
    kd=np.full(12, 5, np.float32),
    torque_limit=np.array(game.TORQUE_LIMITS, np.float32),
)


def reward_input(task: str = "goalie", **changes: Any) -> RewardInput:
    """A robot at rest in its default pose, 2 m from a ball at rest, its back to it; float64."""
    parts = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    parts |= {
        "task": np.array(game.TASKS.index(task)),
        "imu_quat": np.array([1.0, 0.0, 0.0, 0.0]),
        "imu_pos": np.array([-6.77, 0.0, rewards.STANDING_HEIGHT]),
        "ball_pos": np.array([-8.77, 0.0, 0.11]),
        "target_pos": np.array([-8.77, 3.0, 0.0]),
        "joint_pos": POSE.astype(np.float64),
        "foot_contact": np.ones(2, bool),
        "ball_contact": np.array(False),
        "ball_blocked": np.array(False),
        "ball_hits": np.array(0, np.int32),
    }
    action = np.zeros(12)
    outer = {"action": action, "previous_action": action, "default_pose": POSE, "ended": False}
    outer |= {"phase": 0.0, "air_time": np.zeros(2), "score": 0.0, "previous_score": 0.0}
    outer = {key: np.asarray(changes.pop(key, value)) for key, value in outer.items()}
    parts |= {key: np.asarray(value) for key, value in changes.items()}
    return RewardInput(frame=Frame(**parts), **outer)


def random_input(seed: int, scale: float) -> RewardInput:
    """``BATCH`` float32 worlds: balls anywhere, at the target and about the goal."""
    rng = np.random.default_rng(seed)

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-scale, scale, (BATCH, *shape)).astype(np.float32)

    parts: dict[str, np.ndarray] = {name: uniform(*shape) for name, shape in SHAPES.items()}
    parts["imu_quat"] /= np.linalg.norm(parts["imu_quat"], axis=-1, keepdims=True)
    parts["imu_pos"][:, 2] = rng.uniform(0, 1, BATCH)
    third = BATCH // 3
    near = rng.uniform(-0.4, 0.4, (third, 3))
    parts["ball_pos"][:third] = parts["target_pos"][:third] + near
    about = rng.uniform([-13, -2, 0], [-10, 2, 2.5], (third, 3))
    parts["ball_pos"][third : 2 * third] = about
    frame = Frame(
        **parts,
        task=rng.integers(0, 3, BATCH).astype(np.int32),
        foot_contact=rng.random((BATCH, 2)) < 0.5,
        ball_contact=rng.random(BATCH) < 0.5,
        ball_blocked=rng.random(BATCH) < 0.2,
        ball_hits=rng.integers(0, 4, BATCH).astype(np.int32),
    )
    actions = rng.uniform(-1, 1, (2, BATCH, 12)).astype(np.float32)
    ended, clocks = rng.random(BATCH) < 0.5, (uniform() % 1.0, uniform(2))
    return RewardInput(
        frame, *actions, POSE, ended, *clocks, score=uniform(), previous_score=uniform()
    )
