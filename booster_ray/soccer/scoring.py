"""Raw reward terms, termination and the official score of the three tasks.

Sources: ``compute_reward`` and ``compute_terminated`` of sai_mujoco's football environments;
the weights are those of the competition's evaluation functions.
"""

from __future__ import annotations

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import norm

PENALTY_WEIGHTS = {
    "robot_distance_ball": 0.25,
    "ball_vel_twd_goal": 1.5,
    "goal_scored": 2.5,
    "offside": -3.0,
    "ball_hits": -0.2,
    "robot_fallen": -1.5,
    "ball_blocked": -0.5,
    "steps": -1.0,
}
TARGET_WEIGHTS = {"offside": -1.0, "success": 2.0, "distance": 0.5, "steps": -0.3}

WEIGHTS = {"goalie": PENALTY_WEIGHTS, "obstacle": PENALTY_WEIGHTS, "kick_to_target": TARGET_WEIGHTS}
"""Official evaluation weights of each task's raw terms."""


OUTCOMES = frozenset({"goal_scored", "success", "offside", "robot_fallen", "ball_blocked"})
"""Raw terms that are 0 or 1: their means over episodes are rates."""


def worst_terms(task: str) -> dict[str, float]:
    """Weight times term of the worst outcome: what an episode counts as whose physics is lost.

    Every punished outcome at once, at the full price of time, with the ball at rest. A ball that
    flies away from the goal, or is touched again and again, can cost more; neither has a limit.
    """
    punished = OUTCOMES | {"steps"}
    return {n: min(w, 0.0) if n in punished else 0.0 for n, w in WEIGHTS[task].items()}


def ball_in_goal(frame: Frame) -> Array:
    """Whether the ball counts as scored, by each world's task. bool (...)."""
    xp = frame.ball_pos.__array_namespace__()
    x, y, z = frame.ball_pos[..., 0], frame.ball_pos[..., 1], frame.ball_pos[..., 2]
    line = -game.FIELD_HALF_LENGTH
    in_box = (
        (x >= line - game.GOAL_DEPTH)
        & (x <= line)
        & (y >= -game.GOAL_HALF_WIDTH)
        & (y < game.GOAL_HALF_WIDTH)
        & (z < game.GOAL_HEIGHT)
    )
    distance = target_distance(frame)
    reached = xp.where(
        frame.task == game.OBSTACLE,
        distance < game.OBSTACLE_GOAL_RADIUS,
        distance < game.TARGET_RADIUS,
    )
    return xp.where(frame.task == game.GOALIE, in_box, reached)


def target_distance(frame: Frame) -> Array:
    """Metres from the ball's site to the target's; meaningless in the goalie task. (...)."""
    return norm(frame.ball_pos - frame.target_pos)


def outside_field(frame: Frame) -> Array:
    """Whether the ball left the field, goals excepted in the penalty tasks. bool (...)."""
    xp = frame.ball_pos.__array_namespace__()
    outside = (xp.abs(frame.ball_pos[..., 0]) > game.FIELD_HALF_LENGTH) | (
        xp.abs(frame.ball_pos[..., 1]) > game.FIELD_HALF_WIDTH
    )
    forgiven = (frame.task != game.KICK_TO_TARGET) & ball_in_goal(frame)
    return outside & ~forgiven


def fallen(frame: Frame) -> Array:
    """Whether the imu is at or below ``game.FALL_HEIGHT``. bool (...)."""
    return ~(frame.imu_pos[..., 2] > game.FALL_HEIGHT)


def terminated(frame: Frame) -> Array:
    """Whether the official episode ends here other than by time. bool (...).

    The official check for NaN belongs to the world, which must reset such a state anyway.
    """
    blocked = frame.ball_blocked & (frame.task != game.KICK_TO_TARGET)
    return fallen(frame) | ball_in_goal(frame) | outside_field(frame) | blocked


def raw_terms(frame: Frame) -> dict[str, Array]:
    """Every raw reward term of the three official tasks, each of shape (...).

    A world's own score uses only those named in ``WEIGHTS[task]``; ``steps`` is the constant 1.
    """
    xp = frame.ball_pos.__array_namespace__()
    dtype = frame.ball_pos.dtype
    scored = xp.astype(ball_in_goal(frame), dtype)
    # Only the penalty tasks count touches.
    touched = (frame.ball_hits > 0) & (frame.task != game.KICK_TO_TARGET)
    near = 1.0 - xp.tanh(norm(frame.imu_pos - frame.ball_pos))
    extra_hits = xp.astype(xp.maximum(frame.ball_hits - 1, 0 * frame.ball_hits), dtype)
    return {
        "robot_distance_ball": xp.where(touched, 1.5, near),
        # The goal plane's normal is +x for both goals, and the official sign is minus.
        "ball_vel_twd_goal": -frame.ball_vel[..., 0],
        "goal_scored": scored,
        "success": scored,
        "offside": xp.astype(outside_field(frame), dtype),
        "ball_hits": xp.log1p(extra_hits),
        "robot_fallen": xp.astype(fallen(frame), dtype),
        "ball_blocked": xp.astype(frame.ball_blocked, dtype),
        "distance": xp.exp(-target_distance(frame)),
        "ball_distance_target": 1.0 - xp.tanh(target_distance(frame)),
        "steps": xp.ones_like(frame.ball_pos[..., 0]),
    }


def worst_score(task: Array) -> Array:
    """The official score of :func:`worst_terms`, (...): -6 in the penalty tasks, else -1.3.

    Args:
        task: int (...): index into ``game.TASKS``.
    """
    xp = task.__array_namespace__()
    target, penalty = (sum(worst_terms(name).values()) for name in ("kick_to_target", "goalie"))
    return xp.where(task == game.KICK_TO_TARGET, target, penalty)


def running_score(frame: Frame) -> Array:
    """:func:`official_score` with the velocity of the ball's centre, (...).

    The official one reads a point of the surface, which in rolling moves at 0 to 2 times the
    ball's speed: that is chance, and not a merit of the policy.
    """
    return official_score(frame._replace(ball_vel=frame.ball_center_vel))


def official_score(frame: Frame) -> Array:
    """What the competition pays if the episode ends in this frame, by task. (...)."""
    xp = frame.ball_pos.__array_namespace__()
    terms = raw_terms(frame)

    def weighted(weights: dict[str, float]) -> Array:
        return sum(weight * terms[name] for name, weight in weights.items())

    return xp.where(
        frame.task == game.KICK_TO_TARGET, weighted(TARGET_WEIGHTS), weighted(PENALTY_WEIGHTS)
    )
