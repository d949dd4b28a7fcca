"""Dense reward terms for training; the sum of what they pay is the reward of a control step.

A term pays weight · term · the control step's seconds, so that a weight means the same at any
decimation (as in legged_gym and mujoco_playground); an event, which happens in single steps, pays
weight · term.

To add one, write its function here, under :func:`reward_term`. Another package writes it in a
module of its own, and names it as an entry point in the group :data:`GROUP`. Terms are magnitudes;
a weight's sign makes it a reward or a penalty. Sources are named where a term is common practice:
booster_gym (BoosterRobotics) and mujoco_playground's T1 joystick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

from booster_ray.soccer import game
from booster_ray.soccer.entry_points import Added, added
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import heading, norm
from booster_ray.soccer.observation import aim, projected_gravity
from booster_ray.soccer.scoring import ball_in_goal, fallen, official_score

STANDING_HEIGHT = 0.66
"""Metres of the imu above the ground in the default (bent-knee) pose."""

APPROACH_SPEED = 0.8
"""m/s towards the ball beyond which approaching pays no more."""


RECORDED = "reward."
"""What the name of a term follows in the record of an episode: the sum of weight · term."""

SWING_HEIGHT = 0.08
"""Metres that a swinging foot is lifted by (mujoco_playground's T1 joystick: 0.08)."""

GAIT_TOLERANCE = 0.05
"""Metres of foot height error at which ``gait`` has fallen to 1/e."""

STANDING_FOOT = 0.04
"""Height (m) of a foot's site when it stands on the ground (measured)."""


class RewardInput(NamedTuple):
    """Everything a reward term may look at, for one control step of a batch of worlds."""

    frame: Frame
    action: Array
    """(..., 12) in [-1, 1]."""
    previous_action: Array
    """(..., 12)."""
    default_pose: Array
    """(12,) rad."""
    ended: Array
    """bool (...): the official episode ends in this step, by termination or time."""
    phase: Array
    """(...) cycles in [0, 1): the gait clock. The left foot swings in the first half."""
    air_time: Array
    """(..., 2) s for which each foot had been in the air before this step."""
    score: Array
    """(...): the running score (:func:`~booster_ray.soccer.scoring.running_score`)."""
    previous_score: Array
    """(...): the same one control step before; in an episode's first step that of now."""


class Term(NamedTuple):
    """One reward term."""

    compute: Callable[[RewardInput], Array]
    """Its magnitude, (...)."""
    weight: float
    """What a config weighs it with that does not say."""
    about: str
    """One sentence for the documentation."""
    event: bool = False
    """Whether it is paid by the occasion and not by the second."""


class AddedTerm:
    """A reward term of another package, which is imported when the term is computed.

    It weighs nothing unless a config says so: to install a package changes no training.
    """

    weight = 0.0

    def __init__(self, source: Added) -> None:
        self.source = source

    @cached_property
    def term(self) -> Term:
        """The term itself.

        Raises:
            Exception: whatever its module raises.
            TypeError: there is something else in its place.
        """
        term = _MADE.get(self.source.load())
        if term is None:
            raise TypeError(f"{self.source.place} is no function under @reward_term()")
        if term.weight:
            text = f"{self.source.place} has the default weight {term.weight:g}, expected none"
            raise TypeError(f"{text}: configs weigh it")
        return term

    @property
    def compute(self) -> Callable[[RewardInput], Array]:
        """See :class:`Term`."""
        return self.term.compute

    @property
    def about(self) -> str:
        """See :class:`Term`."""
        return self.term.about

    @property
    def event(self) -> bool:
        """See :class:`Term`."""
        return self.term.event


GROUP = "booster_ray.rewards"
"""Entry points of other packages' terms: ``NAME = "module:function"``."""
TERMS: dict[str, Term | AddedTerm] = {}
"""Every dense term by the name that configs use, in the order in which they are summed; ours come
first."""
_MADE: dict[Callable[[RewardInput], Array], Term] = {}
"""Every function under :func:`reward_term`."""


def reward_term(
    weight: float = 0.0, *, event: bool = False
) -> Callable[[Callable[[RewardInput], Array]], Callable[[RewardInput], Array]]:
    """Make a function of this module a reward term of its name, one of another's its entry point's.

    The term is then a key of a config's ``rewards``, which may be searched and scheduled, a metric
    ``reward/NAME`` and a row of ``docs/rewards.md``, which says the docstring's first paragraph.

    Args:
        weight: the default; of another package's terms 0.
        event: whether it is paid by the occasion: weight · term, however long a step is.
    """

    def register(compute: Callable[[RewardInput], Array]) -> Callable[[RewardInput], Array]:
        about = " ".join((compute.__doc__ or "").partition("\n\n")[0].split())
        _MADE[compute] = Term(compute, weight, about, event)
        if compute.__module__ == __name__:
            TERMS[compute.__name__] = _MADE[compute]
        return compute

    return register


@reward_term(weight=50.0)
def alive(m: RewardInput) -> Array:
    """1 while the robot has not fallen."""
    return _number(~fallen(m.frame), m)


@reward_term(weight=25.0)
def upright(m: RewardInput) -> Array:
    """1 when the trunk is vertical, about 0.5 at 24°; exp(-4 |g_xy|²) of projected gravity."""
    xp = _xp(m)
    g = projected_gravity(m.frame.imu_quat)
    return xp.exp(-4.0 * (g[..., 0] ** 2 + g[..., 1] ** 2))


@reward_term(weight=50.0)
def height(m: RewardInput) -> Array:
    """1 at the standing height, 0.37 at 10 cm from it."""
    return _xp(m).exp(-(((m.frame.imu_pos[..., 2] - STANDING_HEIGHT) / 0.1) ** 2))


@reward_term()
def approach(m: RewardInput) -> Array:
    """Horizontal speed towards the ball over APPROACH_SPEED, in [-1, 1]."""
    xp = _xp(m)
    to_ball = (m.frame.ball_pos - m.frame.imu_pos)[..., :2]
    direction = to_ball / (norm(to_ball, eps=1e-6)[..., None])
    speed = xp.sum(m.frame.root_vel[..., :2] * direction, axis=-1)
    return xp.clip(speed / APPROACH_SPEED, -1.0, 1.0)


@reward_term()
def ball_velocity(m: RewardInput) -> Array:
    """Ball speed (m/s) towards the goal line, or towards the target where there is one."""
    xp = _xp(m)
    to_target = (m.frame.target_pos - m.frame.ball_pos)[..., :2]
    direction = to_target / (norm(to_target, eps=1e-6)[..., None])
    towards = xp.sum(m.frame.ball_vel[..., :2] * direction, axis=-1)
    return xp.where(m.frame.task == game.GOALIE, -m.frame.ball_vel[..., 0], towards)


@reward_term()
def ball_contact(m: RewardInput) -> Array:
    """1 while the robot touches the ball."""
    return _number(m.frame.ball_contact, m)


@reward_term(weight=10.0)
def pose(m: RewardInput) -> Array:
    """1 in the default pose; exp(-Σ (q - q₀)²)."""
    xp = _xp(m)
    return xp.exp(-xp.sum((m.frame.joint_pos - m.default_pose) ** 2, axis=-1))


@reward_term()
def torque(m: RewardInput) -> Array:
    """Mean squared torque over its limit (booster_gym's torque penalty, made unitless); a cost."""
    xp = _xp(m)
    limit = xp.asarray(game.TORQUE_LIMITS, dtype=m.frame.torque.dtype)
    return xp.mean((m.frame.torque / limit) ** 2, axis=-1)


@reward_term(weight=-2.5)
def smoothness(m: RewardInput) -> Array:
    """Mean squared change of the action (the usual action-rate penalty); a cost."""
    return _xp(m).mean((m.action - m.previous_action) ** 2, axis=-1)


@reward_term()
def joint_velocity(m: RewardInput) -> Array:
    """Mean squared joint velocity, (rad/s)²; a cost."""
    return _xp(m).mean(m.frame.joint_vel**2, axis=-1)


@reward_term(weight=-5.0)
def joint_limits(m: RewardInput) -> Array:
    """Sum of the radians by which joints enter the last 5 % of their range; a cost."""
    xp = _xp(m)
    low, high = (
        xp.asarray([r[i] for r in game.JOINT_RANGES], dtype=m.frame.joint_pos.dtype) for i in (0, 1)
    )
    soft = 0.05 * (high - low)
    q = m.frame.joint_pos
    over = xp.maximum(low + soft - q, 0 * q) + xp.maximum(q - high + soft, 0 * q)
    return xp.sum(over, axis=-1)


@reward_term()
def foot_slip(m: RewardInput) -> Array:
    """Squared horizontal speed (m²/s²) of feet in contact, summed (mujoco_playground); a cost."""
    xp = _xp(m)
    speed2 = xp.sum(m.frame.foot_vel[..., :2] ** 2, axis=-1)
    return xp.sum(xp.where(m.frame.foot_contact, speed2, 0 * speed2), axis=-1)


@reward_term()
def vertical_velocity(m: RewardInput) -> Array:
    """Squared vertical speed of the trunk, m²/s²; a cost."""
    return m.frame.root_vel[..., 2] ** 2


@reward_term(event=True)
def official(m: RewardInput) -> Array:
    """The official score, paid in the step in which the episode ends."""
    score = official_score(m.frame)
    return _xp(m).where(m.ended, score, 0 * score)


@reward_term(event=True)
def score_change(m: RewardInput) -> Array:
    """What the step adds to the official score, were the episode to end, by the ball's centre.

    Over an episode it sums to the score at its end (less that of its first step): it is dense at
    the moment of a kick, and cannot be earned twice.
    """
    return m.score - m.previous_score


@reward_term(weight=-5.0, event=True)
def fall(m: RewardInput) -> Array:
    """1 in the step in which the robot falls; a cost."""
    return _number(fallen(m.frame), m)


@reward_term()
def facing_ball(m: RewardInput) -> Array:
    """Cosine of the angle between the robot's heading and the way to the ball."""
    xp = _xp(m)
    way = (m.frame.ball_pos - m.frame.imu_pos)[..., :2]
    return xp.sum(heading(m.frame.imu_quat) * way, axis=-1) / norm(way, eps=1e-6)


@reward_term()
def behind_ball(m: RewardInput) -> Array:
    """Cosine of the angle between robot → ball and ball → aim: 1 where a straight kick scores."""
    xp = _xp(m)
    way = (m.frame.ball_pos - m.frame.imu_pos)[..., :2]
    kick = aim(m.frame) - m.frame.ball_pos[..., :2]
    return xp.sum(way * kick, axis=-1) / (norm(way, eps=1e-6) * norm(kick, eps=1e-6))


@reward_term()
def ball_speed(m: RewardInput) -> Array:
    """Ball speed (m/s) towards the aim, no less than zero: a bad touch costs nothing here."""
    xp = _xp(m)
    way = aim(m.frame) - m.frame.ball_pos[..., :2]
    towards = xp.sum(m.frame.ball_vel[..., :2] * way, axis=-1) / norm(way, eps=1e-6)
    return xp.maximum(towards, 0 * towards)


@reward_term(event=True)
def goal(m: RewardInput) -> Array:
    """1 in the step in which the ball reaches the goal or the target."""
    return _number(ball_in_goal(m.frame) & m.ended, m)


@reward_term()
def gait(m: RewardInput) -> Array:
    """1 when both feet are as high as the gait clock asks; exp(-Σ (z - z*)² / 0.0025 m²).

    Source: ``feet_phase`` of mujoco_playground's T1 joystick, with a raised sine in place of its
    Bézier curve. Feet are measured from their height when standing.
    """
    xp = _xp(m)
    swing = xp.stack([m.phase, m.phase + 0.5], axis=-1)
    lift = xp.sin(2.0 * math.pi * swing)
    wanted = SWING_HEIGHT * xp.where(lift > 0, lift, 0 * lift)
    error = m.frame.foot_pos[..., 2] - STANDING_FOOT - wanted
    return xp.exp(-xp.sum(error**2, axis=-1) / GAIT_TOLERANCE**2)


@reward_term()
def stepping(m: RewardInput) -> Array:
    """Fraction of feet in the air while the gait clock has them swing (booster_gym feet_swing).

    A foot's swing window is the middle half of its half cycle.
    """
    xp = _xp(m)
    offset = xp.stack([m.phase, m.phase + 0.5], axis=-1) % 1.0 - 0.25
    window = xp.abs(offset) < 0.125
    return xp.sum(_number(window & ~m.frame.foot_contact, m), axis=-1)


@reward_term(event=True)
def feet_air_time(m: RewardInput) -> Array:
    """Seconds beyond 0.2, at most 0.3, that a foot was in the air, paid when it lands.

    Source: ``feet_air_time`` of mujoco_playground's T1 joystick.
    """
    xp = _xp(m)
    landed = m.frame.foot_contact & (m.air_time > 0)
    paid = xp.clip(m.air_time - 0.2, -0.2, 0.3)
    return xp.sum(xp.where(landed, paid, 0 * paid), axis=-1)


@reward_term()
def feet_distance(m: RewardInput) -> Array:
    """Metres by which the feet are nearer than 0.2 m sideways (booster_gym); a cost."""
    xp = _xp(m)
    forward = heading(m.frame.imu_quat)
    apart = m.frame.foot_pos[..., 0, :2] - m.frame.foot_pos[..., 1, :2]
    sideways = apart[..., 1] * forward[..., 0] - apart[..., 0] * forward[..., 1]
    return xp.clip(0.2 - sideways, 0.0, 0.2)


@reward_term()
def angular_velocity(m: RewardInput) -> Array:
    """Squared roll and pitch rate, rad²/s² (``ang_vel_xy`` of legged_gym); a cost."""
    return m.frame.gyro[..., 0] ** 2 + m.frame.gyro[..., 1] ** 2


TERMS |= {one.name: AddedTerm(one) for one in added(GROUP, "reward term", TERMS).values()}


def reward(
    given: RewardInput, weights: Mapping[str, Array], seconds: Array = 1.0
) -> tuple[Array, dict[str, Array]]:
    """The sum of what the terms pay, (...), and each of its summands, (...), by the term's name.

    A term whose weight is the number 0 is not computed, and no summand.

    Args:
        given: one control step.
        weights: by the second; of events by the occasion.
        seconds: of a control step; 1: all weights are by the step.

    Raises:
        KeyError: a weight names no term.
    """
    total, summands = 0.0 * given.frame.imu_pos[..., 0], {}
    for name in counted(weights):
        term = TERMS[name]
        paid = weights[name] * (1.0 if term.event else seconds)
        summands[name] = paid * term.compute(given)
        total = total + summands[name]
    return total, summands


def counted(weights: Mapping[str, Array]) -> list[str]:
    """Names of the terms that count: a traced weight has no value yet, and does.

    Raises:
        KeyError: a weight names no term.
    """
    if unknown := [name for name in weights if name not in TERMS]:
        raise KeyError(*unknown)
    return [n for n, weight in weights.items() if not isinstance(weight, int | float) or weight]


def _xp(m: RewardInput) -> Array:
    return m.frame.imu_pos.__array_namespace__()


def _number(flag: Array, m: RewardInput) -> Array:
    return _xp(m).astype(flag, m.frame.imu_pos.dtype)
