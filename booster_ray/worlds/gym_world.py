"""Any gymnasium environment with continuous observations and actions, as a world."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from booster_ray.worlds import gym_state
from booster_ray.worlds.contract import StepResult


class GymWorld:
    """Copies of one environment, with same-step autoreset, on the calling thread.

    Observations are flattened to float32; actions in [-1, 1] span the environment's own bounds.
    Rewards are the environment's. There is one task, 0, and no official score.

    Args:
        env_id: what ``gymnasium.make`` takes; ``module:id`` imports the module first.
        num_envs: copies.

    Raises:
        ValueError: no such environment, or its observations or actions are not what a Gaussian
            policy can serve: a Box, bounded in the case of actions.
    """

    def __init__(self, env_id: str, num_envs: int) -> None:
        envs = SyncVectorEnv(
            [lambda: _make(env_id)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
        )
        actions, observations = envs.single_action_space, envs.single_observation_space
        assert isinstance(actions, Box) and isinstance(observations, Box)  # by _make
        self._envs, self._shape = envs, (num_envs, *actions.shape)
        self._centre = (0.5 * (actions.high + actions.low)).astype(actions.dtype)
        self._reach = (0.5 * (actions.high - actions.low)).astype(actions.dtype)
        self.num_envs = num_envs
        self.observation_size = int(np.prod(observations.shape))
        self.action_size = int(np.prod(actions.shape))
        self.task = np.zeros(num_envs, np.int32)
        self._seconds = _step_seconds(envs.envs[0])
        self._returns = np.zeros(num_envs)
        self._steps = np.zeros(num_envs, np.int64)

    def reset(self, seed: int) -> np.ndarray:
        """Start every episode anew, each copy with its own stream; float32 (num_envs, obs)."""
        seeds = np.random.SeedSequence(seed).generate_state(self.num_envs)
        self._returns[:] = 0.0
        self._steps[:] = 0
        return self._flat(self._envs.reset(seed=[int(s) for s in seeds])[0])

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.worlds.contract.World`."""
        if np.shape(action) != (self.num_envs, self.action_size):
            expected = self.num_envs, self.action_size
            raise ValueError(f"action has shape {np.shape(action)}; expected {expected}")
        if not np.isfinite(action).all():
            raise ValueError("action is not finite; expected numbers in [-1, 1]")
        unit = np.clip(action, -1.0, 1.0).reshape(self._shape)
        told: tuple[Any, ...] = self._envs.step(self._centre + self._reach * unit)
        observation, reward, terminated, truncated, infos = told
        first = final = self._flat(observation)
        over = terminated | truncated
        if over.any():
            final = first.copy()
            final[over] = self._flat(np.stack(infos["final_obs"][over]))
        self._returns += reward
        self._steps += 1
        episodes = self._records(over)
        self._returns[over] = 0.0
        self._steps[over] = 0
        # An episode that ends in both ways has no value beyond.
        truncated = truncated & ~terminated
        return StepResult(first, final, reward.astype(np.float32), terminated, truncated, episodes)

    def _flat(self, observation: np.ndarray) -> np.ndarray:
        return observation.reshape(len(observation), -1).astype(np.float32)

    def _records(self, over: np.ndarray) -> list[dict[str, float]]:
        return [
            {
                "env": int(i),
                "task": 0,
                "return": float(self._returns[i]),
                "seconds": float(self._steps[i] * self._seconds),
                "score": float(self._returns[i]),
            }
            for i in np.flatnonzero(over)
        ]

    def state(self) -> dict[str, Any]:
        """Every copy's state, generators included; empty where some of it cannot be read."""
        try:
            envs = [gym_state.read(env) for env in self._envs.envs]
        except gym_state.Unreadable:
            return {}
        together = gym_state.together(envs)
        return {"envs": together, "returns": self._returns.copy(), "steps": self._steps.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            ValueError: it is of another number of copies or another environment.
        """
        saved = len(state["returns"])
        if saved != self.num_envs:
            raise ValueError(f"world state is of {saved} copies; here are {self.num_envs}")
        self.reset(0)  # so that everything that a reset creates is there to be written
        for i, env in enumerate(self._envs.envs):
            gym_state.write(env, gym_state.apart(state["envs"], i))
        self._returns = np.array(state["returns"])
        self._steps = np.array(state["steps"])

    def close(self) -> None:
        """Close the copies."""
        self._envs.close()


def _make(env_id: str) -> gymnasium.Env:
    try:
        env = gymnasium.make(env_id, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"gymnasium cannot make {env_id!r}: {error}") from None
    seen, done = env.observation_space, env.action_space
    if not isinstance(seen, Box):
        raise ValueError(f"{env_id} is seen through a {type(seen).__name__}; expected a Box")
    if not (isinstance(done, Box) and done.is_bounded()):
        kind = "an unbounded Box" if isinstance(done, Box) else f"a {type(done).__name__}"
        raise ValueError(f"{env_id} takes actions from {kind}; expected a bounded Box")
    return env


def _step_seconds(env: gymnasium.Env) -> float:
    """Seconds that one step lasts, where the environment says so, else 1."""
    rate = (env.metadata or {}).get("render_fps")
    return float(getattr(env.unwrapped, "dt", 1.0 / rate if rate else 1.0))
