"""What a policy sees: one table of parts, from which everything about observations follows.

``OFFICIAL`` holds the 89 numbers that the competition's preprocessor gives, in its order
(training_scripts/main.py of ArenaX-Labs/booster_soccer_showdown). ``FEATURES`` holds what a config
may append to them. An entry says how a part is computed, what it becomes in the mirror, whether
how much noise its sensor has and which official infos are it. Sizes, places, noise, the mirror, the
config's names, the official view and the exported preprocessor are read from these entries, so a
new part is one entry.

The functions of parts, and whatever functions they call, go into packages as text. They may use
the array namespace, constants and other functions of the rules, and no imported module but
``game``; and of a frame only what official infos give (:mod:`booster_ray.policy.preprocessor`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import heading, norm, rotate, rotate_inverse
from booster_ray.soccer.symmetry import (
    AXIAL,
    CLOCK,
    JOINTS,
    PLANAR,
    VECTOR,
    Image,
    joined,
    unchanged,
)


class Clock(NamedTuple):
    """What a preprocessor may keep between steps."""

    phase: Array
    """(...) cycles in [0, 1): the gait clock."""
    previous_action: Array
    """(..., 12) in [-1, 1]."""
    time_left: Array
    """(...) of an official episode: 1 at its start, 0 at its end."""


NO_CLOCK = Clock(phase=None, previous_action=None, time_left=None)
"""What official parts are computed with: they do not look at it."""


class Part(NamedTuple):
    """One part of the observation."""

    compute: Callable[[Frame, Clock], Array]
    """(..., size) of a batch of worlds."""
    image: Image
    """What it becomes in the mirror."""
    noise: float | tuple[float, ...]
    """Of its numbers, or of each: deviation of sensor noise beside 1 rad in the joints' angles, in
    the number's own unit for each rad; 0 of what no sensor measures. See ``ANGLE`` and below."""
    infos: tuple[str, ...] = ()
    """Official infos that are this part, one after the other, equally long. A part that no infos
    are is computed from the frame in the exported preprocessor too."""
    unit: str | tuple[str, ...] = "1"
    """Of its numbers, or of each; ``1`` of what has none."""
    scale: float | tuple[float, ...] = 1.0
    """What a quantity in that unit is multiplied by, or each of them."""

    @property
    def size(self) -> int:
        """Numbers in it."""
        return len(self.image)


# Sensor noise in proportion to that of the joints' angles. All are half-widths of what
# mujoco_playground gives the Booster T1 (noise_config.scales of its t1/joystick.py), over its
# 0.03 rad of the joints, except for places: 0.05 m is the ball_pos of dribblebot's noise_scales
# (Ji et al. 2023, "DribbleBot: Dynamic Legged Manipulation in the Wild").
_JOINTS = 0.03
ANGLE = 1.0
JOINT_SPEED = 1.5 / _JOINTS
"""rad/s for each rad of the joints' angles."""
TURN = 0.2 / _JOINTS
"""rad/s: of a gyro, and of what turns."""
DIRECTION = 0.05 / _JOINTS
"""Of a unit vector's components."""
ACCELERATION = 9.81 * DIRECTION
"""m/s²: the accelerometer tells gravity's direction, and is as good as that is."""
SPEED = 0.1 / _JOINTS
"""m/s."""
PLACE = 0.05 / _JOINTS
"""m."""


# --- the competition's ---


def projected_gravity(imu_quat: Array) -> Array:
    """Unit gravity in the body frame; (0, 0, -1) when upright. Shape: (..., 4) → (..., 3)."""
    xp = imu_quat.__array_namespace__()
    down = xp.asarray([0.0, 0.0, -1.0], dtype=imu_quat.dtype)
    return rotate_inverse(imu_quat, xp.broadcast_to(down, (*imu_quat.shape[:-1], 3)))


def _float32(x: Array) -> Array:
    """As official infos give sensors and orientation: so equal states look equal to the bit."""
    xp = x.__array_namespace__()
    return xp.astype(x, xp.float32)


def joint_pos(frame: Frame, _: Clock) -> Array:
    """Joint angles, rad. (..., 12)."""
    return frame.joint_pos


def joint_vel(frame: Frame, _: Clock) -> Array:
    """Joint speeds, rad/s. (..., 12)."""
    return frame.joint_vel


def gravity(frame: Frame, _: Clock) -> Array:
    """Projected gravity. (..., 3)."""
    return projected_gravity(_float32(frame.imu_quat))


def _south(frame: Frame) -> Array:
    """The goal that is attacked, m: the middle of its line, on the ground. (3,)."""
    xp = frame.imu_pos.__array_namespace__()
    return xp.asarray([-game.FIELD_HALF_LENGTH, 0.0, 0.0], dtype=frame.imu_pos.dtype)


def _team(frame: Frame, _: Clock) -> Array:
    """One-hot of the robot's team, which is always the first. (..., 2)."""
    xp = frame.imu_pos.__array_namespace__()
    return xp.broadcast_to(xp.asarray([1, 0]), (*frame.task.shape, 2))


def _keepers(frame: Frame, _: Clock) -> Array:
    """Position (m) and velocity (m/s) from the robot, of one keeper, then the other. (..., 12)."""
    xp = frame.imu_pos.__array_namespace__()
    parts = [
        frame.keeper_pos - frame.imu_pos[..., None, :],
        frame.keeper_vel - frame.root_vel[..., None, :],
    ]
    return xp.reshape(xp.concat(parts, axis=-1), (*frame.task.shape, -1))


def _defenders(frame: Frame, _: Clock) -> Array:
    """Absolute positions, m. (..., 9)."""
    xp = frame.defender_pos.__array_namespace__()
    return xp.reshape(frame.defender_pos, (*frame.task.shape, -1))


def _task(frame: Frame, _: Clock) -> Array:
    """One-hot of the task. (..., 3)."""
    xp = frame.imu_pos.__array_namespace__()
    return _float32(frame.task[..., None] == xp.arange(len(game.TASKS)))


_KEEPER_INFOS = tuple(
    f"goalkeeper_team_{team}_{quantity}_rel_robot"
    for team in (0, 1)
    for quantity in ("xpos", "velp")
)

OFFICIAL: dict[str, Part] = {
    "joint_pos": Part(joint_pos, JOINTS, ANGLE, unit="rad"),
    "joint_vel": Part(joint_vel, JOINTS, JOINT_SPEED, unit="rad/s"),
    "gravity": Part(gravity, VECTOR, DIRECTION),
    "gyro": Part(lambda f, _: _float32(f.gyro), AXIAL, TURN, infos=("robot_gyro",), unit="rad/s"),
    "accelerometer": Part(
        lambda f, _: _float32(f.accelerometer),
        VECTOR,
        ACCELERATION,
        infos=("robot_accelerometer",),
        unit="m/s²",
    ),
    "velocimeter": Part(
        lambda f, _: _float32(f.velocimeter),
        VECTOR,
        SPEED,
        infos=("robot_velocimeter",),
        unit="m/s",
    ),
    # Goals stand on the mirror's plane.
    "south_goal_from_robot": Part(
        lambda f, _: _south(f) - f.imu_pos,
        VECTOR,
        PLACE,
        infos=("goal_team_0_rel_robot",),
        unit="m",
    ),
    "north_goal_from_robot": Part(
        lambda f, _: -_south(f) - f.imu_pos,
        VECTOR,
        PLACE,
        infos=("goal_team_1_rel_robot",),
        unit="m",
    ),
    "south_goal_from_ball": Part(
        lambda f, _: _south(f) - f.ball_pos,
        VECTOR,
        PLACE,
        infos=("goal_team_0_rel_ball",),
        unit="m",
    ),
    "north_goal_from_ball": Part(
        lambda f, _: -_south(f) - f.ball_pos,
        VECTOR,
        PLACE,
        infos=("goal_team_1_rel_ball",),
        unit="m",
    ),
    "ball": Part(
        lambda f, _: f.ball_pos - f.imu_pos, VECTOR, PLACE, infos=("ball_xpos_rel_robot",), unit="m"
    ),
    "ball_vel": Part(
        lambda f, _: f.ball_vel - f.root_vel,
        VECTOR,
        SPEED,
        infos=("ball_velp_rel_robot",),
        unit="m/s",
    ),
    "ball_angvel": Part(
        lambda f, _: f.ball_angvel - f.root_angvel,
        AXIAL,
        TURN,
        infos=("ball_velr_rel_robot",),
        unit="rad/s",
    ),
    # The mirror does not change sides.
    "team": Part(_team, unchanged(2), 0.0, infos=("player_team",)),
    # A keeper moves by a clock that is no part of the observation: in the goalie task the image
    # is that of a play half a keeper's period later.
    "keepers": Part(
        _keepers,
        joined(*[VECTOR] * 4),
        2 * (*3 * (PLACE,), *3 * (SPEED,)),
        infos=_KEEPER_INFOS,
        unit=2 * (*3 * ("m",), *3 * ("m/s",)),
    ),
    "target": Part(
        lambda f, _: f.target_pos - f.imu_pos,
        VECTOR,
        PLACE,
        infos=("target_xpos_rel_robot",),
        unit="m",
    ),
    "target_vel": Part(
        lambda f, _: f.target_vel - f.root_vel,
        VECTOR,
        SPEED,
        infos=("target_velp_rel_robot",),
        unit="m/s",
    ),
    # Defenders are in no order: they need not change places.
    "defenders": Part(_defenders, joined(*[VECTOR] * 3), PLACE, infos=("defender_xpos",), unit="m"),
    "task": Part(_task, unchanged(len(game.TASKS)), 0.0, infos=("task_index",)),
}
"""The 89 numbers, in their order."""


# --- what may be appended ---
#
# The official observation gives positions in the world frame and hides the heading, so a network
# must learn to turn vectors by an angle it cannot see. These parts say the same from the robot.


def gait_phase(steps: Array, frequency: float) -> Array:
    """Phase in [0, 1) of a clock of ``frequency`` Hz after int (...) physics steps."""
    cycles = steps * (game.TIMESTEP * frequency)
    return cycles - cycles.__array_namespace__().floor(cycles)


def remaining(steps: Array) -> Array:
    """Share of an official episode that is left after int (...) physics steps, in [0, 1]."""
    return 1.0 - steps / game.EPISODE_STEPS


def aim(frame: Frame) -> Array:
    """Where the ball should go, m: the target, or the middle of the goal line. (..., 2)."""
    xp = frame.ball_pos.__array_namespace__()
    goal = xp.asarray([-game.FIELD_HALF_LENGTH, 0.0], dtype=frame.ball_pos.dtype)
    goalie = (frame.task == game.GOALIE)[..., None]
    return xp.where(goalie, goal, frame.target_pos[..., :2])


def _turned(vector: Array, forward: Array) -> Array:
    """World (..., 2) in the frame whose x axis is ``forward``."""
    xp = vector.__array_namespace__()
    x = vector[..., 0] * forward[..., 0] + vector[..., 1] * forward[..., 1]
    y = vector[..., 1] * forward[..., 0] - vector[..., 0] * forward[..., 1]
    return xp.stack([x, y], axis=-1)


def ground_velocity(frame: Frame) -> Array:
    """The ball's velocity over the ground, m/s, as official infos tell it. (..., 3).

    They tell it from the robot, whose own velocity the target shows, which stands still. The
    goalie task has no target, and its keepers are slowed where they touch a post: there the
    robot's velocity is its velocimeter's, 2 ms older.
    """
    xp = frame.ball_vel.__array_namespace__()
    older = rotate(_float32(frame.imu_quat), _float32(frame.velocimeter)) - frame.root_vel
    return frame.ball_vel + xp.where((frame.task == game.GOALIE)[..., None], older, 0 * older)


def egocentric(frame: Frame, _: Clock) -> Array:
    """Ball, aim and keeper seen from the robot's heading. (..., 9).

    Ball from the imu (2), ball velocity over the ground (2), unit vector from ball to aim (2)
    and its length over 5 m (1), keeper from the ball (2; zero where there is none).
    """
    xp = frame.ball_pos.__array_namespace__()
    forward = heading(frame.imu_quat)
    ball = frame.ball_pos[..., :2]
    way = aim(frame) - ball
    length = norm(way, eps=1e-12)[..., None]
    keeper = frame.keeper_pos[..., 0, :2] - ball
    keeper = xp.where((frame.task == game.GOALIE)[..., None], keeper, 0 * keeper)
    return xp.concat(
        [
            _turned(ball - frame.imu_pos[..., :2], forward),
            _turned(ground_velocity(frame)[..., :2], forward),
            _turned(way / length, forward),
            length / 5.0,
            _turned(keeper, forward),
        ],
        axis=-1,
    )


_EGOCENTRIC = (*2 * (PLACE,), *2 * (SPEED,), *2 * (DIRECTION,), PLACE / 5.0, *2 * (PLACE,))


def clock(_: Frame, kept: Clock) -> Array:
    """Sine and cosine of the gait clock. (..., 2)."""
    xp = kept.phase.__array_namespace__()
    angle = 2.0 * xp.pi * kept.phase
    return xp.stack([xp.sin(angle), xp.cos(angle)], axis=-1)


def previous_action(_: Frame, kept: Clock) -> Array:
    """The last action. (..., 12)."""
    return kept.previous_action


def time_left(_: Frame, kept: Clock) -> Array:
    """Share of the episode that is left. (..., 1)."""
    return kept.time_left[..., None]


FEATURES: dict[str, Part] = {
    "egocentric": Part(
        egocentric,
        joined(PLANAR, PLANAR, PLANAR, unchanged(1), PLANAR),
        _EGOCENTRIC,
        unit=("m", "m", "m/s", "m/s", "1", "1", "m", "m", "m"),
        scale=(*6 * (1.0,), 0.2, 1.0, 1.0),
    ),
    "clock": Part(clock, CLOCK, 0.0),
    "previous_action": Part(previous_action, JOINTS, 0.0),
    "time_left": Part(time_left, unchanged(1), 0.0),
}
"""Parts that a config appends, in the order that it gives, by the name that it uses."""


# --- what follows from the table ---


def parts(names: Sequence[str] = ()) -> list[Part]:
    """The observation with the named features, in order; raises KeyError for an unknown one."""
    return [*OFFICIAL.values(), *(FEATURES[name] for name in names)]


def size(names: Sequence[str] = ()) -> int:
    """Numbers in an observation with the named features."""
    return sum(part.size for part in parts(names))


def places(names: Sequence[str] = ()) -> dict[str, slice]:
    """Where each part lies in an observation with the named features."""
    found, start = {}, 0
    for name, part in zip([*OFFICIAL, *names], parts(names), strict=True):
        found[name] = slice(start, start + part.size)
        start += part.size
    return found


def noise(names: Sequence[str] = ()) -> list[float]:
    """Of each number of an observation with the named features, see :class:`Part`."""
    each: list[float] = []
    for part in parts(names):
        each += [part.noise] * part.size if isinstance(part.noise, float) else part.noise
    return each


def image(names: Sequence[str] = ()) -> Image:
    """What an observation with the named features becomes in the mirror."""
    return joined(*(part.image for part in parts(names)))


def describe_features() -> str:
    """Names of the features, each with what its function's docstring says first."""
    first = {
        name: (part.compute.__doc__ or "").partition(". ")[0] for name, part in FEATURES.items()
    }
    return ", ".join(f"`{name}` ({text[:1].lower()}{text[1:]})" for name, text in first.items())


def observe(frame: Frame) -> Array:
    """Official observation of every world, float32 of shape (..., 89)."""
    xp = frame.joint_pos.__array_namespace__()
    seen = [xp.astype(part.compute(frame, NO_CLOCK), xp.float32) for part in OFFICIAL.values()]
    return xp.concat(seen, axis=-1)


def append(observation: Array, frame: Frame, kept: Clock, names: Sequence[str]) -> Array:
    """The official observation (..., 89) and the named features, float32 (..., size(names))."""
    xp = observation.__array_namespace__()
    extra = [xp.astype(FEATURES[name].compute(frame, kept), xp.float32) for name in names]
    return xp.concat([observation, *extra], axis=-1) if extra else observation
