"""Worlds that step where JAX computes: pure functions for a loop there, a World for the host."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.envs.contract import StepResult
from booster_ray.envs.mjx import Outcome
from booster_ray.runtime.programs import Programs

S = TypeVar("S")


class Dynamics(Protocol[S]):
    """A batch of auto-resetting episodes as functions of a state ``S``, a pytree.

    Arrays of ``S`` lead with ``num_envs`` where they belong to a world.
    """

    num_envs: int
    observation_size: int
    action_size: int
    tasks: tuple[int, ...]
    """Numbers of the tasks that may be drawn at a reset."""
    terms: tuple[str, ...]
    """Reward terms whose sums the records have, as ``reward.TERM``."""
    numbers: Any
    """A pytree of what may differ between worlds that share their compiled functions."""
    structure: Hashable
    """All the rest that compiled functions depend on."""

    def bound(self, numbers: Any) -> Dynamics[S]:
        """These worlds with other numbers, which may be traced."""
        ...

    def start(self, seed: int) -> S:
        """The state in which every episode begins."""
        ...

    def observation(self, state: S) -> jax.Array:
        """float32 (num_envs, observation_size): what the next action answers."""
        ...

    def advance(self, state: S, action: jax.Array) -> tuple[S, Outcome]:
        """One control step, under ``jit``. ``action``: float32 (num_envs, action_size)."""
        ...

    def tree(self, state: S) -> dict[str, Any]:
        """All that changes, as nested dicts of arrays."""
        ...

    def restored(self, state: S, tree: dict[str, Any]) -> S:
        """The state that ``tree`` was taken of; raises ValueError when it does not fit.

        ``state``: any of these worlds; what a checkpoint leaves out is taken from it.
        """
        ...


@runtime_checkable
class ScalableDynamics(Protocol):
    """Dynamics whose rewards may weigh more or less in the course of training."""

    def scale_rewards(self, state: Any, factors: Mapping[str, float]) -> Any:
        """``state`` with weights of reward terms multiplied from now on."""
        ...


_ADVANCE: Programs[Callable[..., Any]] = Programs(2)


class DeviceWorld:
    """:class:`Dynamics` of one task, stepped from the host as a ``contract.World``.

    Raises:
        ValueError: there are several tasks, which a ``World`` may not draw anew.
    """

    def __init__(self, dynamics: Dynamics[Any]) -> None:
        if len(dynamics.tasks) != 1:
            raise ValueError(f"dynamics of tasks {dynamics.tasks}; expected a single one")
        self.dynamics = dynamics
        self.num_envs = dynamics.num_envs
        self.observation_size = dynamics.observation_size
        self.action_size = dynamics.action_size
        self.task = np.full(dynamics.num_envs, dynamics.tasks[0], np.int32)
        self._advance = _ADVANCE.of(
            dynamics.structure,
            lambda: jax.jit(lambda numbers, *given: dynamics.bound(numbers).advance(*given)),
        )
        self._state: Any = None

    def reset(self, seed: int) -> np.ndarray:
        """Start every episode anew; float32 (num_envs, observation_size)."""
        self._state = self.dynamics.start(seed)
        return np.asarray(self.dynamics.observation(self._state))

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.envs.contract.World`."""
        if np.shape(action) != (self.num_envs, self.action_size):
            expected = self.num_envs, self.action_size
            raise ValueError(f"action has shape {np.shape(action)}; expected {expected}")
        if not np.isfinite(action).all():
            raise ValueError("action is not finite; expected numbers in [-1, 1]")
        self._state, outcome = self._advance(
            self.dynamics.numbers, self._state, jnp.asarray(action, jnp.float32)
        )
        outcome = jax.device_get(outcome)
        records = [
            {"env": int(i), **{name: float(v[i]) for name, v in outcome.episodes.items()}}
            for i in np.flatnonzero(outcome.recorded)
        ]
        return StepResult(
            outcome.observation,
            outcome.final_observation,
            outcome.reward,
            outcome.terminated,
            outcome.truncated,
            records,
        )

    def state(self) -> dict[str, Any]:
        """Everything that changes, as a tree of arrays."""
        return jax.tree.map(np.array, self.dynamics.tree(self._state))

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state`` was taken; raises ValueError when it does not fit."""
        like = self.dynamics.start(0) if self._state is None else self._state
        self._state = self.dynamics.restored(like, state)

    def close(self) -> None:
        """Let go of the state."""
        self._state = None
