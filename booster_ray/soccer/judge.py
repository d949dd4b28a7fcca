"""What the rules say of one control step: the one place that decides it, for every simulator.

A simulator records a :class:`~booster_ray.soccer.frame.Frame` of each physics step and asks
:func:`judge`. Like all rules this is made of array functions: NumPy and JAX, one world or a batch,
under ``vmap`` and ``jit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.observation import Clock, append, gait_phase, observe, remaining
from booster_ray.soccer.rewards import RECORDED, RewardInput, reward
from booster_ray.soccer.scoring import (
    ball_in_goal,
    fallen,
    official_score,
    running_score,
    terminated,
    worst_score,
)


class Episode(NamedTuple):
    """What the rules remember of an episode between control steps, every array (...)."""

    task: Array
    """int32 (...): index into ``game.TASKS``."""
    target: Array
    """(..., 3) m, world frame; meaningless in the goalie task."""
    steps: Array
    """int (...): physics steps since the reset."""
    hits: Array
    """int32 (...): contacts begun between robot and ball since the reset."""
    touching: Array
    """bool (...): the robot touched the ball in the last physics step."""
    air_time: Array
    """(..., 2) s for which each foot has been in the air."""
    action: Array
    """(..., 12): the last action, in [-1, 1]."""
    score: Array
    """(...): :func:`~booster_ray.soccer.scoring.running_score` after the last control step."""
    returns: Array
    """(...): sum of the rewards."""
    term_sums: dict[str, Array]
    """(...) each: sum of weight · term of the reward terms that count, by their names."""


class Judgement(NamedTuple):
    """What came of one control step, every array (...)."""

    episode: Episode
    """After the step."""
    reward: Array
    """float32 (...); 0 where the state was lost."""
    terminated: Array
    """bool (...): the game ended the episode, or its state was lost."""
    truncated: Array
    """bool (...): time ended it, and nothing else."""
    lost: Array
    """bool (...): the physics is no longer finite."""
    score: Array
    """(...): official, were the episode to end here; of a lost one the worst
    (:func:`~booster_ray.soccer.scoring.worst_score`), so that no mean is better for it."""
    fallen: Array
    """bool (...); a lost world counts as fallen."""
    success: Array
    """bool (...); a lost world has none."""

    @property
    def over(self) -> Array:
        """Whether the episode ended, bool (...)."""
        return self.terminated | self.truncated

    def record(self) -> dict[str, Array]:
        """What is told of an episode that is over, (...) each, beside its world and task."""
        episode = self.episode
        return {
            "return": episode.returns,
            "seconds": episode.steps * game.TIMESTEP,
            "score": self.score,
            "fallen": self.fallen,
            "success": self.success,
            "touched": episode.hits > 0,
            "lost": self.lost,
            **{RECORDED + name: value for name, value in episode.term_sums.items()},
        }


class Conditions(NamedTuple):
    """What stays the same in all episodes of a world: numbers, which may be traced."""

    default_pose: Array
    """(12,) rad."""
    gait_frequency: Array
    """Of the gait clock, Hz."""
    episode_steps: Array
    """Physics steps until time is up."""
    reward_seconds: Array = 1.0
    """Of a control step, where reward weights are by the second; 1: they are by the step."""
    limit_terminates: Array = False
    """Whether an episode whose time is up counts as terminated: nothing follows, as in the
    official game, which pays its score then. Else it is truncated, and its value bootstrapped."""


def judge(
    episode: Episode,
    frames: Frame,
    lost: Array,
    action: Array,
    weights: Mapping[str, Array],
    conditions: Conditions,
) -> tuple[Judgement, Frame]:
    """Judge one control step of k physics steps.

    The frame is of the last physics step that counts: the first to end the episode, or the k-th.

    Args:
        episode: before the step, (...).
        frames: (..., k), without ``ball_hits``.
        lost: bool (..., k): the state after the physics step is not finite.
        action: (..., 12) in [-1, 1].
        weights: of the reward terms; see :func:`~booster_ray.soccer.rewards.reward`.
        conditions: of the world.
    """
    xp = lost.__array_namespace__()
    frames = _with_hits(frames, episode)
    ended = terminated(frames) | lost
    last = _last_that_counts(ended, episode.steps, conditions.episode_steps)
    frame = Frame(*(_at(part, last) for part in frames))
    ended, lost, steps = _at(ended, last), _at(lost, last), episode.steps + last + 1
    truncated = (steps >= conditions.episode_steps) & ~ended
    score = running_score(frame)
    given = RewardInput(
        frame=frame,
        action=action,
        previous_action=episode.action,
        default_pose=conditions.default_pose,
        ended=(ended & ~lost) | truncated,
        phase=gait_phase(steps, conditions.gait_frequency),
        air_time=episode.air_time,
        score=score,
        previous_score=xp.where(episode.steps == 0, score, episode.score),
    )
    closing = truncated & conditions.limit_terminates
    total, summands = reward(given, weights, conditions.reward_seconds)
    summands = {name: xp.where(lost, 0.0, value) for name, value in summands.items()}
    airborne = episode.air_time + game.TIMESTEP * (last + 1)[..., None]
    airborne = xp.where(frame.foot_contact, 0.0, airborne)
    after = episode._replace(
        steps=steps, air_time=airborne, action=action, score=xp.where(lost, 0.0, score)
    )
    dense = xp.astype(xp.where(lost, 0.0, total), xp.float32)
    judgement = Judgement(
        episode=_added(after, frame, dense, summands),
        reward=dense,
        terminated=ended | closing,
        truncated=truncated & ~closing,
        lost=lost,
        score=xp.where(lost, worst_score(episode.task), official_score(frame)),
        fallen=fallen(frame) | lost,
        success=ball_in_goal(frame) & ~lost,
    )
    return judgement, frame


def _added(episode: Episode, frame: Frame, dense: Array, summands: Mapping[str, Array]) -> Episode:
    """With a step's touches of the ball, its reward, and that of each term."""
    return episode._replace(
        hits=frame.ball_hits,
        touching=frame.ball_contact,
        returns=episode.returns + dense,
        term_sums={name: sums + summands[name] for name, sums in episode.term_sums.items()},
    )


def seen(frame: Frame, episode: Episode, features: Sequence[str], conditions: Conditions) -> Array:
    """The observation without noise, float32 (..., features.size(features)).

    Args:
        frame: of the last physics step that counts, or of the reset, (...).
        episode: after that step.
        features: names from ``features.FEATURES``, appended to the official observation.
        conditions: of the world.
    """
    phase = gait_phase(episode.steps, conditions.gait_frequency)
    clock = Clock(phase, episode.action, remaining(episode.steps))
    return append(observe(frame), frame, clock, features)


def _with_hits(frames: Frame, episode: Episode) -> Frame:
    """``frames`` (..., k) with ``ball_hits``, which go on from those of ``episode``."""
    touching = frames.ball_contact
    xp = touching.__array_namespace__()
    before = xp.concat([episode.touching[..., None], touching[..., :-1]], axis=-1)
    begun = xp.cumsum(touching & ~before, axis=-1, dtype=xp.int32)
    return frames._replace(ball_hits=episode.hits[..., None] + begun)


def _last_that_counts(ended: Array, steps: Array, episode_steps: Array) -> Array:
    """Which of the k physics steps is the last of the episode, or else of the control step.

    Args:
        ended: bool (..., k).
        steps: int (...): physics steps before them.
        episode_steps: until truncation.
    """
    xp = ended.__array_namespace__()
    k = ended.shape[-1]
    stop = ended | (steps[..., None] + xp.arange(1, k + 1) >= episode_steps)
    return xp.where(xp.any(stop, axis=-1), xp.argmax(stop, axis=-1), k - 1)


def _at(part: Array, which: Array) -> Array:
    """One physics step of each world: (..., k, rest) at (...) → (..., rest)."""
    xp = part.__array_namespace__()
    axis = which.ndim
    place = which.reshape(*which.shape, *[1] * (part.ndim - axis))
    return xp.squeeze(xp.take_along_axis(part, place, axis=axis), axis=axis)
