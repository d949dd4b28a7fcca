"""Native worlds for gymnasium, so that any trainer plays the official game at native speed.

``import booster_ray.envs.vector`` registers, for ``gymnasium.make_vec`` and ``gymnasium.make``,
``booster_ray/GoaliePenaltyKick-v0``, ``booster_ray/ObstaclePenaltyKick-v0`` and
``booster_ray/KickToTarget-v0``, one official task each, and ``booster_ray/Soccer-v0``, whose
worlds take turns at all three (``make_vec`` only). An id that names this module needs no import::

    gymnasium.make_vec("booster_ray.envs.vector:booster_ray/Soccer-v0", num_envs=9)

As it comes, an action is 12 torques in N·m for 2 ms, the official action, and the reward is the
official score, paid in the step that ends an episode. See :class:`SoccerVectorEnv` for more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from booster_ray.config import Config
from booster_ray.envs.contract import StepResult
from booster_ray.envs.native import NativeWorld
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains, leg_gains
from booster_ray.soccer.rewards import TERMS

IDS = {
    "booster_ray/GoaliePenaltyKick-v0": ["goalie"],
    "booster_ray/ObstaclePenaltyKick-v0": ["obstacle"],
    "booster_ray/KickToTarget-v0": ["kick_to_target"],
    "booster_ray/Soccer-v0": list(game.TASKS),
}
"""Gymnasium ids and their tasks."""


class SoccerVectorEnv(VectorEnv):
    """Many native worlds as one ``gymnasium.vector.VectorEnv`` with same-step autoreset.

    An episode that ends starts anew within the same step: its last observation is in
    ``infos["final_obs"]``, its record in ``infos["final_info"]`` (task, score, seconds, fallen,
    success, touched, lost, and ``episode`` with return ``r`` and length ``l`` in steps). A world
    whose physics is lost terminates with reward 0; its record says so (``lost``) and counts as the
    worst outcome.

    Args:
        num_envs: worlds; world ``i`` plays ``tasks[i % len(tasks)]``.
        tasks: names from ``game.TASKS``.
        mode: what an action is: ``newton_metres`` (torques), ``torque`` (their fractions of the
            limits) or ``pd`` (joint targets about a default pose, the last two in [-1, 1]).
        decimation: physics steps of 2 ms for each action.
        gains: PD gains, shapes (12,); those of the default config if None.
        reward: ``score`` (official, at the end) or ``dense`` (``weights`` in every step).
        weights: weights of dense reward terms, by the names of ``rewards.TERMS``; what a term
            pays in a second.
        level: domain randomization, 0-3.
        threads: physics threads.
        episode_steps: physics steps until truncation.
        features: names from ``observation.FEATURES``, appended to the 89 official numbers.
        gait_frequency: of the gait clock, Hz.
        seed: of the first ``reset`` should that name none; from the system's entropy if None.

    Raises:
        ValueError: an unknown task, mode, level, reward or weight, or fewer worlds than tasks.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, *, seed: int | None = None, **options: Any) -> None:
        self.closed = True  # should the next line raise, gymnasium still closes what it deletes
        self.world = _world(num_envs, **options)
        self.closed = False
        self.num_envs = num_envs
        self.single_action_space = _actions(options.get("mode", "newton_metres"))
        self.single_observation_space = _observations(self.world)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._decimation = options.get("decimation", 1)
        self._fresh = False
        super().reset(seed=seed)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every episode anew.

        Args:
            seed: world ``i`` spawns as the official environment does on ``reset(seed=seed + i)``,
                or ``seed[i]``; None goes on with the generator.
            options: ignored.

        Returns:
            float32 (num_envs, observation_size), and no infos.
        """
        if seed is None:
            seeds = self.np_random.integers(2**31, size=self.num_envs).tolist()
        elif isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [int(s) for s in seed]
            if len(seeds) != self.num_envs:
                raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds")
            super().reset(seed=seeds[0])
        self._fresh = True
        return self.world.reset(seeds[0], env_seeds=seeds), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every world by one action; ended episodes start anew.

        Args:
            actions: (num_envs, 12); what exceeds the action space is clipped.

        Returns:
            observations (num_envs, observation_size) and rewards (num_envs,), float32,
            terminations and truncations, bool (num_envs,), and infos.

        Raises:
            ValueError: wrong shape, or an action that is not finite.
            ResetNeeded: before the first ``reset``.
            ClosedEnvironmentError: after ``close``.
        """
        if self.closed:
            raise ClosedEnvironmentError("step() after close()")
        if not self._fresh:
            raise ResetNeeded("step() before the first reset()")
        result = self.world.step(actions)
        infos: dict[str, Any] = {}
        for i, record in _records(result, self._decimation).items():
            last = {"final_obs": result.final_observation[i], "final_info": record}
            infos = self._add_info(infos, last, i)
        return result.observation, result.reward, result.terminated, result.truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the physics threads."""
        self.world.close()


class SoccerEnv(gymnasium.Env):
    """One native world as a ``gymnasium.Env``; options as for :class:`SoccerVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, *, seed: int | None = None, **options: Any) -> None:
        self.world = _world(1, auto_reset=False, **options)
        self.action_space = _actions(options.get("mode", "newton_metres"))
        self.observation_space = _observations(self.world)
        self._decimation = options.get("decimation", 1)
        super().reset(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start anew, as the official environment on the same seed; the observation, no info."""
        super().reset(seed=seed)
        spawn = int(self.np_random.integers(2**31)) if seed is None else seed
        return self.world.reset(spawn, env_seeds=[spawn])[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply one action, (12,); the info of an episode's last step is its record.

        Raises:
            ValueError: wrong shape, or an action that is not finite.
        """
        result = self.world.step(np.asarray(action)[None])
        info = _records(result, self._decimation).get(0, {})
        ended, cut = bool(result.terminated[0]), bool(result.truncated[0])
        return result.final_observation[0], float(result.reward[0]), ended, cut, info

    def close(self) -> None:
        """Stop the physics threads."""
        self.world.close()


def _world(
    num_envs: int,
    tasks: Sequence[str] = game.TASKS,
    mode: str = "newton_metres",
    decimation: int = 1,
    gains: Gains | None = None,
    reward: str = "score",
    weights: Mapping[str, float] | None = None,
    **options: Any,
) -> NativeWorld:
    if reward not in ("score", "dense"):
        raise ValueError(f"unknown reward {reward!r}; expected 'score' or 'dense'")
    if (reward == "dense") != bool(weights):
        raise ValueError(f"reward {reward!r} with weights {weights}; 'dense' needs some, only it")
    unknown = sorted(set(weights or {}) - set(TERMS))
    if unknown:
        raise ValueError(f"unknown reward terms {unknown}; expected some of {sorted(TERMS)}")
    if gains is None:
        control = Config().control
        gains = leg_gains(control.default_pose, control.action_scale, control.kp, control.kd)
    paid = dict(weights or {"official": 1.0})
    step = decimation * game.TIMESTEP
    return NativeWorld(
        tasks, num_envs, gains, mode=mode, decimation=decimation, weights=paid,
        reward_seconds=step, **options,
    )  # fmt: skip


def _actions(mode: str) -> Box:
    limits = np.array(game.TORQUE_LIMITS, np.float32)
    high = limits if mode == "newton_metres" else np.ones_like(limits)
    return Box(-high, high, dtype=np.float32)


def _observations(world: NativeWorld) -> Box:
    return Box(-np.inf, np.inf, (world.observation_size,), np.float32)


def _records(result: StepResult, decimation: int) -> dict[int, dict[str, Any]]:
    """What is told of each world's episode that ended in this step."""
    records: dict[int, dict[str, Any]] = {}
    for episode in result.episodes:
        steps = math.ceil(round(episode["seconds"] / game.TIMESTEP) / decimation)
        told = {k: v for k, v in episode.items() if k not in ("env", "return")}
        records[int(episode["env"])] = told | {"episode": {"r": episode["return"], "l": steps}}
    return records


for _id, _tasks in IDS.items():
    gymnasium.register(
        _id,
        entry_point=f"{__name__}:SoccerEnv",
        vector_entry_point=f"{__name__}:SoccerVectorEnv",
        kwargs={"tasks": _tasks},
    )
