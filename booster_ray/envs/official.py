"""sai_mujoco itself: the truth that every other world is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from booster_ray.runtime.versions import check_versions
from booster_ray.soccer import game
from booster_ray.soccer.observation import OFFICIAL, projected_gravity
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
    told = info | {
        "joint_pos": observation[:12],
        "joint_vel": observation[12:24],
        "gravity": projected_gravity(info["robot_quat"][[3, 0, 1, 2]]),
        "task_index": np.arange(len(game.TASKS)) == game.TASKS.index(task),
    }
    seen = [told[key] for name, part in OFFICIAL.items() for key in part.infos or (name,)]
    return np.concatenate(seen, dtype=np.float32)


def score_official(terms: dict[str, Any], task: str) -> float:
    """Official score of an episode that ends with these raw reward terms."""
    return float(sum(w * float(terms.get(name, 1.0)) for name, w in WEIGHTS[task].items()))
