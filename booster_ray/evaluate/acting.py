"""Plays a policy that acts on our observation at the control rate, from wherever it comes.

Torques are asked for every 2 ms. The observation is that of our worlds, made from official infos
by the text that packages carry; the action is held for the control step and becomes torques by the
PD law, as fractions of the torque limits, or as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from booster_ray.config.errors import blame
from booster_ray.policy import sai
from booster_ray.policy.player import BadAction, shaped
from booster_ray.policy.preprocessor import render
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_target, pd_torque

JOINTS = game.ACTION_SIZE
TASKS = len(game.TASKS)


class Act(Protocol):
    """A policy, for one batch of episodes."""

    def __call__(self, seen: np.ndarray, first: np.ndarray) -> Any:
        """Observations (n, obs) float32, and which worlds begin (n,) bool, to actions (n, 12)."""
        ...


class Acting:
    """A player of one batch of episodes: see :class:`~booster_ray.policy.player.Player`.

    Args:
        act: the policy, new for each batch if it remembers.
        settings: how it is played; ``mode`` may also be ``newton_metres``.
        fit: observations as the policy wants them, of :func:`fitting`.
    """

    def __init__(
        self, act: Act, settings: Settings, fit: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self._act, self._settings, self._fit = act, settings, fit
        self._gains = settings.gains()
        self._preprocessor = sai.load_code(render(settings), "class", "preprocessor")
        self._held = np.zeros((0, JOINTS))

    def __call__(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Official observations (n, D) and infos (n, …) to torques (n, 12) N·m.

        Raises:
            BadAction: the policy fails, or gives something that is no action.
        """
        told = self._preprocessor.modify_state(observation, info)
        steps, size = self._preprocessor.steps, self._settings.observation_size
        first, acts = steps == 0, steps % self._settings.decimation == 0
        if len(self._held) != len(told):
            self._held = np.zeros((len(told), JOINTS))
        if acts.any():
            before = np.where(first[:, None], 0.0, self._held)
            new = self._decide(told[:, :size], before, first)
            self._held = np.where(acts[:, None], new, before)
        # Of the observation's numbers: a preprocessor may tell more behind these.
        joints = told[:, size : size + 2 * JOINTS].astype(np.float64)
        return self._torque(joints[:, :JOINTS], joints[:, JOINTS:])

    def _decide(self, seen: np.ndarray, before: np.ndarray, first: np.ndarray) -> np.ndarray:
        if self._settings.remembers:
            start = self._settings.feature_start("previous_action")
            seen = seen.copy()
            seen[:, start : start + JOINTS] = before
        try:
            given = np.asarray(self._act(self._fit(seen), first))
        except BadAction:
            raise
        except (Exception, SystemExit) as error:  # the policy's code is not ours
            raise BadAction(blame(error)) from None
        return shaped(given, len(seen), "actions")

    def _torque(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        if self._settings.mode == "newton_metres":
            return self._held
        action, gains = np.clip(self._held, -1.0, 1.0), self._gains
        if self._settings.mode == "pd":
            torque: np.ndarray = pd_torque(pd_target(action, gains), position, velocity, gains)
            return torque
        return np.asarray(action * gains.torque_limit)


def fitting(size: int, settings: Settings) -> Callable[[np.ndarray], np.ndarray] | None:
    """How our observation (n, obs) becomes the one of ``size`` numbers that a policy wants.

    As it is; or, without features, as the official one without the task (86), or with the single
    1 that an environment of one task puts there (87). None: it can be none of these.
    """
    if size == settings.observation_size:
        return _whole
    if settings.features:
        return None
    bare = game.OBSERVATION_SIZE - TASKS
    return {bare: _taskless, bare + 1: _one_task}.get(size)


def _whole(seen: np.ndarray) -> np.ndarray:
    return seen


def _taskless(seen: np.ndarray) -> np.ndarray:
    return seen[:, :-TASKS]


def _one_task(seen: np.ndarray) -> np.ndarray:
    return np.concatenate([seen[:, :-TASKS], np.ones_like(seen[:, :1])], axis=1)
