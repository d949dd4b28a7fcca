"""Meta-World's robot arm and its tasks as one world (package ``metaworld``, version 3).

Yu et al. 2020, "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement
Learning"; McLean et al. 2025, "Meta-World+", for version 3.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box

from booster_ray.config import Config, ConfigError
from booster_ray.config.errors import blame
from booster_ray.config.kinds import task_names
from booster_ray.envs.gym_batch import GymBatch, Kept
from booster_ray.envs.processes import ProcessWorld
from booster_ray.runtime.seeding import stream_seed

GOALS = 50
"""Goals of a task, of which each episode has one; the benchmark's number."""


class MetaWorld(GymBatch):
    """The environment at place ``i`` plays the task ``tasks[i % len(tasks)]``.

    Observations are the environment's 39 numbers, goal included, and of several tasks their
    one-hot. Rewards are the environment's (version 2 of its functions, 0 to 10 a step). Episodes
    last 500 steps, which truncates them: success ends none. The score of an episode is its
    ``success``, 1 where the task was solved at any step of it, as in the benchmark.

    A goal, with the objects' places, is one of 50 of its task. They are drawn as the environment
    draws them, each from a generator of its own, and are the same for all worlds of one ``goals``.

    Args:
        tasks: names such as ``reach-v3``.
        goals: seed of the tasks' goals.
        copies: how many environments, or their places in a batch that is divided.

    Raises:
        ValueError: Meta-World is not installed, or cannot be loaded.
    """

    @classmethod
    def from_config(
        cls, config: Config, num_envs: int, *, threads: int, **_: Any
    ) -> MetaWorld | ProcessWorld:
        """The tasks that a config names. Raises ConfigError: Meta-World is not installed."""
        kind, processes = config.world.kind, config.world.process_count(threads)
        make = partial(cls, task_names(kind), stream_seed(config.seed, "goals"))
        try:
            return ProcessWorld(kind, make, num_envs, processes) if processes else make(num_envs)
        except ValueError as error:
            raise ConfigError("world.kind", str(error)) from None

    def __init__(self, tasks: Sequence[str], goals: int, copies: int | Sequence[int]) -> None:
        known = _load()
        places = range(copies) if isinstance(copies, int) else copies
        self._success = np.zeros(len(places))
        super().__init__(
            "metaworld",
            lambda place: GoalsOf(known[tasks[place % len(tasks)]](), place, tasks, goals),
            places,
        )
        self.task = np.array([place % len(tasks) for place in places], np.int32)

    def _heed(self, i: int, info: Any) -> None:
        self._success[i] = max(self._success[i], float(info["success"]))

    def _outcome(self, i: int) -> dict[str, float]:
        return {"score": float(self._success[i]), "success": float(self._success[i])}

    def _kept(self) -> Kept:
        return {**super()._kept(), "success": self._success}


def _load() -> dict[str, Any]:
    """Classes of Meta-World's environments by their names."""
    if find_spec("metaworld") is None:
        install = "pip install 'booster_ray[metaworld]'"
        raise ValueError(f"Meta-World is not installed, expected the package metaworld: {install}")
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except Exception as error:
        raise ValueError(f"Meta-World cannot be loaded: {blame(error)}") from error
    return dict(ALL_V3_ENVIRONMENTS)


_VECTORS: dict[tuple[int, ...], np.ndarray] = {}
"""Goals that were drawn in this process, by their seed, task and number."""


class GoalsOf(gymnasium.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """One environment of Meta-World's with the goals of its task, seen with the task's one-hot.

    Its state is that of its attributes (:mod:`booster_ray.envs.gym_state`): a reset moves bodies
    and sites of the model, which are held here as views, and so are saved and written back.
    """

    def __init__(self, env: Any, place: int, tasks: Sequence[str], goals: int) -> None:
        super().__init__(env)
        number = place % len(tasks)
        self._one_hot = np.eye(len(tasks))[number] if len(tasks) > 1 else np.zeros(0)
        self._goals = goals, zlib.crc32(tasks[number].encode())
        self._draws = np.random.default_rng(0)
        self._body_pos, self._site_pos = env.model.body_pos, env.model.site_pos
        # What Meta-World's own multi-task benchmark sets by set_task, but for the goal.
        env._set_task_called, env._partially_observable, env.seeded_rand_vec = True, False, True
        del env.sawyer_observation_space  # kept from when the goal was hidden
        size = env.sawyer_observation_space.shape[0] + len(self._one_hot)
        # Their bounds differ between tasks, and nothing depends on them.
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode with one of the task's goals."""
        if seed is not None:
            self._draws = np.random.default_rng(seed)
        inner: Any = self.unwrapped
        inner._last_rand_vec = self._vector(inner, int(self._draws.integers(GOALS)))
        # Whether a goal was drawn now or is known must leave no trace in the state.
        inner._freeze_rand_vec, inner.np_random = True, np.random.default_rng(0)
        observation, info = self.env.reset()
        return np.concatenate([observation, self._one_hot]), info

    def _vector(self, env: Any, goal: int) -> np.ndarray:
        """Where things are with a goal, as the environment draws it: it may refuse what it drew."""
        key = (*self._goals, goal)
        if key not in _VECTORS:
            env.np_random, env._freeze_rand_vec = np.random.default_rng(key), False
            mujoco.mj_resetData(env.model, env.data)
            env.reset_model()
            _VECTORS[key] = env._last_rand_vec
        return _VECTORS[key].copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """One control step of 12.5 ms."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen = np.concatenate([observation, self._one_hot])
        return seen, reward, terminated, truncated, info
