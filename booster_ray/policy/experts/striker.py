"""The open walking policy of the Booster T1, steered so that it kicks.

The network walks: it follows a velocity command and a gait clock. What it lacks is here, as a law
of few numbers a task: where to go, and how much harder to swing the leg that is about to meet the
ball. The numbers were searched for the official score (``examples/search_striker.py``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import yaw
from booster_ray.soccer.observation import Clock, projected_gravity

WEIGHTS = "BOOSTER_GYM_T1_WALK"
"""Environment variable: file of the walking policy of BoosterRobotics/booster_gym (Apache-2.0), an
ELU MLP 47-256-128-128-12, as arrays ``layer{0..3}.{weight,bias}`` (weight (out, in)) in an .npz."""
DEFAULT_POSE = np.tile([-0.2, 0.0, 0.0, 0.4, -0.25, 0.0], 2)
"""rad; the network's zero action (booster_gym)."""
FREQUENCY = 2.2
"""Hz of the gait clock that the laws were searched with; the config's must be the same."""
NEAR = (-0.1, 0.4)
"""A ball is there to be kicked from so far behind the imu (m), and so far to its sides."""
SIDESTEP = 0.4
"""Largest command sideways, m/s."""
FASTEST = 1.8
"""Largest command forward, m/s."""
FACING = 0.6
"""rad off its course up to which the robot steps sideways."""


class Law(NamedTuple):
    """How to reach the ball and kick it: numbers, one law a task, or arrays (n,), one a robot."""

    speed: Array
    """m/s behind the ball."""
    turn: Array
    """Turning rate per rad off course, 1/s."""
    aim_y: Array
    """m: the goal's y to kick at (goalie); the panel nearest to this y (obstacle)."""
    side: Array
    """m to the left of the line from ball to aim, where the robot walks."""
    curve: Array
    """m behind the ball to head for, per m off that line."""
    back: Array
    """The most of it, m."""
    blend: Array
    """m from there at which the robot begins to turn to the aim."""
    slow: Array
    """Least share of the speed while turning."""
    lateral: Array
    """Sidestep per m off the line, 1/s."""
    reach: Array
    """m ahead within which a ball is kicked."""
    phase: Array
    """Of the gait, cycles: when the left leg swings hardest."""
    hip: Array
    """rad forward then."""
    hip_back: Array
    """rad back half a cycle away."""
    knee: Array
    """rad straighter."""
    knee_bend: Array
    """rad more bent half a cycle away."""
    ankle: Array
    """rad."""
    around: Array = np.pi
    """rad off the line behind the ball beyond which the robot first walks around it."""
    step: Array = 1.0
    """rad ahead on the way around."""
    radius: Array = 1.0
    """m from the ball on the way around."""
    speed_around: Array = 1.0
    """m/s on the way around."""
    hurry: Array = 0.0
    """More speed behind the ball per m from there to the aim, 1/s."""
    bias: Array = 0.0
    """rad to the left of the aim at which the line behind the ball is drawn."""
    hold: Array = 1.0
    """Share of the way around in which the robot already faces the aim, the rest the ball."""


LAWS = (
    Law(1.6647, 2.9014, 0.7497, -0.1725, 2.4616, 0.4153, 0.2039, 0.7228, 0.5681, 0.5830,
        0.5247, 0.8026, -0.0865, 0.6070, -0.2928, -0.0408, 0.8413, 1.1914, 1.0321, 0.8926,
        0.0000, 0.0140, 0.8996),
    Law(1.0013, 2.8059, 0.4160, -0.1954, 0.9709, 0.4416, 0.2434, 0.7835, 0.6076, 0.5449,
        0.5176, 0.8427, -0.1107, 0.8614, -0.2975, 0.0218, 0.9754, 0.9785, 0.9410, 0.9680,
        0.0010, -0.0194, 1.0000),
    Law(0.4190, 2.2508, -0.7354, -0.1262, 1.7432, 0.8683, 1.0407, 0.7031, 0.3133, -0.2417,
        0.0538, -0.1133, 0.1874, 0.0267, -0.4247, 0.0358, 0.8216, 0.2370, 0.7261, 0.5092,
        0.0475, -0.0577, 0.4721),
)  # fmt: skip
"""By task. Official scores of Striker with them, and their source, are in ``docs/policy.md``."""


class Striker:
    """A :class:`booster_ray.policy.experts.Demonstrator`.

    Args:
        laws: by task.
        weights: file of the walking policy; None: the one that ``BOOSTER_GYM_T1_WALK`` names.

    Raises:
        ValueError: no file is named.
        OSError: it cannot be read.
    """

    def __init__(self, laws: tuple[Law, ...] = LAWS, weights: Path | None = None) -> None:
        named = weights or os.environ.get(WEIGHTS)
        if not named:
            raise ValueError(f"{WEIGHTS} is not set, expected the walking policy's .npz")
        with np.load(named) as arrays:
            self._layers = [
                (arrays[f"layer{i}.weight"].T.astype(float), arrays[f"layer{i}.bias"].astype(float))
                for i in range(4)
            ]
        self._laws = Law(*np.array(laws, float).T)

    def targets(self, frame: Frame, kept: Clock) -> np.ndarray:
        """See :class:`booster_ray.policy.experts.Demonstrator`."""
        return self.follow(Law(*(values[frame.task] for values in self._laws)), frame, kept)

    def follow(self, law: Law, frame: Frame, kept: Clock) -> np.ndarray:
        """Joint targets by a law of each robot's own, arrays (n,); see :meth:`targets`."""
        clock = 2 * np.pi * kept.phase[:, None]
        offsets = self._walk(
            np.concatenate(
                [
                    projected_gravity(frame.imu_quat),
                    frame.gyro,
                    command(law, frame),
                    np.cos(clock),
                    np.sin(clock),
                    frame.joint_pos - DEFAULT_POSE,
                    0.1 * frame.joint_vel,
                    kept.previous_action - DEFAULT_POSE,
                ],
                axis=1,
            )
        )
        return DEFAULT_POSE + np.clip(offsets + swing(law, frame, kept.phase), -1.0, 1.0)

    def _walk(self, x: np.ndarray) -> np.ndarray:
        for i, (weight, bias) in enumerate(self._layers):
            x = x @ weight + bias
            x = np.where(x > 0, x, np.expm1(np.minimum(x, 0))) if i < 3 else x
        return x


def command(law: Law, frame: Frame) -> np.ndarray:
    """Velocities forward and to the left (m/s) and turning rate (rad/s), body frame. (n, 3)."""
    heading, ball, me = yaw(frame.imu_quat), frame.ball_pos[:, :2], frame.imu_pos[:, :2]
    way = _aim(law, frame) - ball
    far = np.linalg.norm(way, axis=1, keepdims=True)
    way = _turned(way / far, law.bias)
    left = np.stack([-way[:, 1], way[:, 0]], axis=1)
    from_ball = me - ball
    off = (from_ball * left).sum(axis=1) - law.side
    behind = np.clip(np.abs(off) * law.curve, 0, law.back)
    goal = ball - way * behind[:, None] + left * law.side[:, None] - me
    line = _angle(way)
    share = np.clip(np.linalg.norm(goal, axis=1) / law.blend, 0, 1)
    error = _wrapped(line + share * _wrapped(_angle(goal) - line) - heading)
    sideways = np.clip(-law.lateral * off * np.cos(_wrapped(line - heading)), -SIDESTEP, SIDESTEP)
    sideways *= np.abs(error) < FACING

    bearing = _wrapped(_angle(from_ball) - _angle(-way))
    ahead = _angle(-way) + bearing - np.sign(bearing) * np.minimum(np.abs(bearing), law.step)
    point = ball + law.radius[:, None] * np.stack([np.cos(ahead), np.sin(ahead)], axis=1)
    around = np.abs(bearing) > law.around
    speed = np.minimum(law.speed + law.hurry * far[:, 0], FASTEST) * np.clip(
        np.cos(error), law.slow, 1
    )
    straight = np.stack([speed, sideways, np.clip(law.turn * error, -1, 1)], axis=1)
    course = _angle(point - me) - heading
    facing = _angle(-from_ball)
    facing = _wrapped(facing + law.hold * _wrapped(line - facing) - heading)
    strafe = law.speed_around[:, None] * np.stack([np.cos(course), np.sin(course)], axis=1)
    strafing = np.column_stack([strafe, np.clip(law.turn * facing, -1, 1)])
    return np.where(around[:, None], strafing, straight)


def swing(law: Law, frame: Frame, phase: np.ndarray) -> np.ndarray:
    """Joint offsets (n, 12), rad, of the leg on the ball's side when the ball is near."""
    x, y = _turned((frame.ball_pos - frame.imu_pos)[:, :2], -yaw(frame.imu_quat)).T
    near = (NEAR[0] < x) & (x < law.reach) & (np.abs(y) < NEAR[1])
    offsets = np.zeros((len(x), game.ACTION_SIZE))
    for leg, kicks in enumerate((near & (y > 0), near & (y <= 0))):
        lift = np.cos(2 * np.pi * (phase - 0.5 * leg - law.phase))
        forward, back = np.maximum(lift, 0), np.maximum(-lift, 0)
        offsets[:, 6 * leg] = kicks * (law.hip_back * back - law.hip * forward)
        offsets[:, 6 * leg + 3] = kicks * (law.knee_bend * back - law.knee * forward)
        offsets[:, 6 * leg + 4] = kicks * law.ankle * forward
    return offsets


def _aim(law: Law, frame: Frame) -> np.ndarray:
    """Where the ball should go: a place on the goal line, a panel, the target. (n, 2) m."""
    goal = np.stack([np.full(len(law.aim_y), -game.FIELD_HALF_LENGTH), law.aim_y], axis=1)
    nearest = np.abs(frame.defender_pos[:, :, 1] - law.aim_y[:, None]).argmin(axis=1)
    panel = frame.defender_pos[np.arange(len(nearest)), nearest, :2]
    task = frame.task[:, None]
    target = np.where(task == game.OBSTACLE, panel, frame.target_pos[:, :2])
    return np.where(task == game.GOALIE, goal, target)


def _turned(vector: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Vectors (n, 2) turned to the left by ``angle`` (n,), rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vector[:, 0], vector[:, 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def _angle(vector: np.ndarray) -> np.ndarray:
    return np.arctan2(vector[:, 1], vector[:, 0])


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """To [-π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
