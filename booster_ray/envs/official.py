"""sai_mujoco itself: the truth that every other world is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from booster_ray.runtime.versions import check_versions
from booster_ray.soccer import game
from booster_ray.soccer.geometry import rotate_inverse
from booster_ray.soccer.scoring import WEIGHTS


@contextmanager
def unprefixed_attach() -> Iterator[None]:
    """Let ``MjSpec.attach`` keep names when no prefix is given, as sai_mujoco expects.

    Since MuJoCo 3.4 a missing prefix turns ``soccer_ball`` into ``/soccer_ball``, and making
    the environment fails. Only calls within this context are affected; drop it when
    ``test_official_needs_the_name_fix`` fails.
    """
    original = mujoco.MjSpec.attach

    def attach(self: Any, child: Any, prefix: str | None = None, **kwargs: Any) -> Any:
        return original(self, child, prefix=prefix or "", **kwargs)

    mujoco.MjSpec.attach = attach
    try:
        yield
    finally:
        mujoco.MjSpec.attach = original


def make_official(task: str, **kwargs: Any) -> Any:
    """The official gymnasium environment of ``task`` (see ``game.TASKS``).

    Raises:
        KeyError: unknown task.
        VersionError: sai_mujoco or MuJoCo is missing or outside the known range.
    """
    check_versions()
    import gymnasium
    import sai_mujoco  # noqa: F401  (registers the environments)

    if task not in game.ENV_IDS:
        raise KeyError(f"unknown task {task!r}; expected one of {list(game.TASKS)}")
    with unprefixed_attach():
        return gymnasium.make(game.ENV_IDS[task], **kwargs)


def observe_official(observation: np.ndarray, info: dict[str, Any], task: str) -> np.ndarray:
    """The competition preprocessor's 89 numbers for one official state. Shape: (89,) float32."""
    x, y, z, w = info["robot_quat"]
    gravity = rotate_inverse(np.array([w, x, y, z]), np.array([0.0, 0.0, -1.0], np.float32))
    one_hot = np.arange(len(game.TASKS)) == game.TASKS.index(task)
    return np.concatenate(
        [
            observation[:24],
            gravity,
            info["robot_gyro"],
            info["robot_accelerometer"],
            info["robot_velocimeter"],
            info["goal_team_0_rel_robot"],
            info["goal_team_1_rel_robot"],
            info["goal_team_0_rel_ball"],
            info["goal_team_1_rel_ball"],
            info["ball_xpos_rel_robot"],
            info["ball_velp_rel_robot"],
            info["ball_velr_rel_robot"],
            info["player_team"],
            info["goalkeeper_team_0_xpos_rel_robot"],
            info["goalkeeper_team_0_velp_rel_robot"],
            info["goalkeeper_team_1_xpos_rel_robot"],
            info["goalkeeper_team_1_velp_rel_robot"],
            info["target_xpos_rel_robot"],
            info["target_velp_rel_robot"],
            info["defender_xpos"],
            one_hot,
        ],
        dtype=np.float32,
    )


def score_official(terms: dict[str, Any], task: str) -> float:
    """Official score of an episode that ends with these raw reward terms."""
    return float(sum(w * float(terms.get(name, 1.0)) for name, w in WEIGHTS[task].items()))
