"""sai_mujoco's own environments as worlds to train in.

Observation, termination and official score are the package's. Its environments know no dense
reward and no features: those come from native worlds that take the same actions beside them,
and whose states are compared with the package's after every action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.contract import StepResult
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import make_official, observe_official, score_official
from booster_ray.envs.options import gains as gains_of
from booster_ray.envs.options import training_options
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains, pd_target, pd_torque

TOLERANCE = 1e-5
"""Largest difference between an observation and the native world's; float32, of up to 20 m."""


class WorldsDisagree(RuntimeError):
    """sai_mujoco and the native worlds beside it have parted; the message says where."""


class OfficialWorld:
    """One sai_mujoco environment a world, stepped one after the other; 170 MB each.

    World ``i`` plays ``tasks[i % len(tasks)]``. Their states cannot be saved.

    Args:
        tasks: names from ``game.TASKS``.
        num_envs: worlds, at least one a task.
        gains: PD gains, shapes (12,).
        mode: ``pd`` (actions offset the default pose) or ``torque`` (fractions of the limits).
        decimation: environment steps of 2 ms for each action.
        options: further ones of :class:`NativeWorld`; not ``level`` or ``auto_reset``.

    Raises:
        ValueError: see :class:`NativeWorld`.
        VersionError: sai_mujoco or MuJoCo is missing or outside the known range.
    """

    action_size = game.ACTION_SIZE

    @classmethod
    def from_config(cls, config: Config, num_envs: int, **_: Any) -> OfficialWorld:
        """The training worlds of a config."""
        return cls(config.tasks, num_envs, gains_of(config), **training_options(config))

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        gains: Gains,
        mode: str = "pd",
        decimation: int = 10,
        **options: Any,
    ) -> None:
        self._native = NativeWorld(tasks, num_envs, gains, mode, decimation, **options)
        self.num_envs, self.task = num_envs, self._native.task
        self.observation_size = self._native.observation_size
        self._gains, self._mode, self._decimation = gains, mode, decimation
        self._tasks = [game.TASKS[t] for t in self.task]
        self._envs = [make_official(task) for task in self._tasks]
        self._seeds = np.random.default_rng(0)
        self._next = np.zeros(num_envs, np.int64)

    @property
    def native(self) -> NativeWorld:
        """The worlds beside the package's, in the same states."""
        return self._native

    def reset(self, seed: int, *, env_seeds: Sequence[int] | None = None) -> np.ndarray:
        """Start every episode anew; float32 (num_envs, observation_size).

        ``env_seeds``: (num_envs) instead of those that are drawn, as ``env.reset(seed=…)`` takes
        them.
        """
        self._seeds = np.random.default_rng(seed)
        seeds = [int(s) for s in self._seeds.integers(0, 2**31, self.num_envs)]
        seeds = seeds if env_seeds is None else [int(s) for s in env_seeds]
        first = self._native.reset(seed, env_seeds=seeds).copy()
        for i, env_seed in enumerate(seeds):
            first[i, : game.OBSERVATION_SIZE] = self._reset(i, env_seed)
            self._draw_next(i)
        return first

    def _reset(self, i: int, seed: int) -> np.ndarray:
        seen, info = self._envs[i].reset(seed=seed)
        return observe_official(seen, info, self._tasks[i])

    def _draw_next(self, i: int) -> None:
        """The seed of the episode after this one, for both kinds of world."""
        self._next[i] = self._seeds.integers(0, 2**31)
        self._native.seed_next(i, int(self._next[i]))

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.envs.contract.World`.

        Raises:
            WorldsDisagree: the package's observation or verdict is not the native world's.
        """
        result = self._native.step(action)
        final, first = result.final_observation.copy(), result.observation.copy()
        scores: dict[int, float] = {}
        for i, row in enumerate(np.clip(np.asarray(action, np.float64), -1.0, 1.0)):
            seen, terminated, info = self._play(i, row)
            self._compare(i, seen, terminated, result)
            final[i, : game.OBSERVATION_SIZE] = first[i, : game.OBSERVATION_SIZE] = seen
            if result.terminated[i] or result.truncated[i]:
                scores[i] = score_official(info["reward_terms"], self._tasks[i])
                first[i, : game.OBSERVATION_SIZE] = self._reset(i, int(self._next[i]))
                self._draw_next(i)
        episodes = [{**e, "score": scores[int(e["env"])]} for e in result.episodes]
        return result._replace(observation=first, final_observation=final, episodes=episodes)

    def _play(self, i: int, action: np.ndarray) -> tuple[np.ndarray, bool, dict[str, Any]]:
        """One action in one environment: the observation after it, whether the game ended."""
        env, data = self._envs[i], self._envs[i].unwrapped.sim.data
        for _ in range(self._decimation):
            if self._mode == "pd":
                # The joints come last in qpos and qvel; float64, unlike the observation.
                q, v = data.qpos[-game.ACTION_SIZE :], data.qvel[-game.ACTION_SIZE :]
                torque = pd_torque(pd_target(action, self._gains), q, v, self._gains)
            else:
                torque = action * self._gains.torque_limit
            seen, _, terminated, truncated, info = env.step(torque)
            if terminated or truncated:
                break
        return observe_official(seen, info, self._tasks[i]), bool(terminated), info

    def _compare(self, i: int, seen: np.ndarray, terminated: bool, result: StepResult) -> None:
        native = result.final_observation[i, : game.OBSERVATION_SIZE]
        gap = float(np.abs(seen - native).max())
        if gap < TOLERANCE and terminated == bool(result.terminated[i]):
            return
        raise WorldsDisagree(
            f"{self._tasks[i]}: sai_mujoco's observation is {gap:.1e} from the native world's, "
            f"terminated is {terminated} and {bool(result.terminated[i])}"
        )

    def scale_rewards(self, factors: Mapping[str, float]) -> None:
        """See :class:`booster_ray.envs.contract.Scalable`."""
        self._native.scale_rewards(factors)

    def state(self) -> dict[str, Any]:
        """Empty: the package's environments cannot be put into a state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Refused with ValueError: there is no state to go on from."""
        raise ValueError("the state of sai_mujoco's environments cannot be restored")

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
        self._native.close()
