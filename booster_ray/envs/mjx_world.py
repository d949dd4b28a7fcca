"""The game on MJX as worlds on the device; see :class:`booster_ray.envs.device.Dynamics`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import jax

from booster_ray.config import Config, ConfigError
from booster_ray.config.curriculum import scheduled_terms
from booster_ray.envs.brax_mjx import State
from booster_ray.envs.mjx import (
    AutoReset,
    Numbers,
    Outcome,
    SoccerEnv,
    outcome,
    restored,
    scale_rewards,
    state_tree,
)
from booster_ray.envs.options import gains as gains_of
from booster_ray.envs.options import training_options
from booster_ray.runtime.programs import Programs
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains


def resolved_impl(impl: str) -> str:
    """``auto`` as what it means here: warp where CUDA and warp-lang are, else jax."""
    if impl != "auto":
        return impl
    return "warp" if jax.default_backend() == "gpu" and find_spec("warp") else "jax"


_BEGIN: Programs[Callable[..., State]] = Programs(2)


class MjxDynamics:
    """A batch of MJX worlds that draw one of ``tasks`` at each reset.

    Args:
        tasks: names from ``game.TASKS``.
        num_envs: worlds in the batch.
        gains: PD gains, shapes (12,).
        impl: ``jax``, ``warp`` or ``auto``.
        options: of :class:`booster_ray.envs.mjx.SoccerEnv`.

    Raises:
        ValueError: the options are refused, or ``warp`` is not installed.
    """

    @classmethod
    def from_config(cls, config: Config, num_envs: int) -> MjxDynamics:
        """The training worlds of a config. Raises ConfigError: warp is not installed."""
        options = training_options(config) | {"scaled_terms": scheduled_terms(config)}
        try:
            return cls(config.tasks, num_envs, gains_of(config), config.world.impl, **options)
        except ValueError as error:
            raise ConfigError("world.impl", str(error)) from None

    def __init__(
        self, tasks: Sequence[str], num_envs: int, gains: Gains, impl: str = "auto", **options: Any
    ) -> None:
        env = SoccerEnv(tasks, gains, impl=resolved_impl(impl), worlds=num_envs, **options)
        self._env = AutoReset(env)
        self.terms = env.terms
        self.num_envs = num_envs
        self.observation_size: int = self._env.observation_size
        self.action_size: int = self._env.action_size
        self.tasks = tuple(game.TASKS.index(task) for task in tasks)
        self._scaled: tuple[str, ...] = tuple(options.get("scaled_terms", ()))
        self.numbers: Numbers = env.numbers
        self.structure: Hashable = ("mjx", num_envs, env.structure)
        self._begin = _BEGIN.of(self.structure, self._compiled)

    def _compiled(self) -> Callable[..., State]:
        return jax.jit(lambda numbers, keys: self.bound(numbers)._env.reset(keys))

    def bound(self, numbers: Numbers) -> MjxDynamics:
        """These worlds with other numbers, which may be traced."""
        other = copy.copy(self)
        other.numbers = numbers
        other._env = AutoReset(self._env.env.bound(numbers))
        return other

    def start(self, seed: int) -> State:
        """Every episode at its begin, each world with its own stream."""
        keys = jax.random.split(jax.random.PRNGKey(seed), self.num_envs)
        return self._begin(self.numbers, keys)

    def observation(self, state: State) -> jax.Array:
        """(num_envs, observation_size)."""
        return state.obs

    def advance(self, state: State, action: jax.Array) -> tuple[State, Outcome]:
        """One control step; see :class:`booster_ray.envs.device.Dynamics`."""
        state = self._env.step(state, action)
        return state, outcome(state)

    def scale_rewards(self, state: State, factors: Mapping[str, float]) -> State:
        """``state`` with weights of its ``scaled_terms`` multiplied from now on."""
        return scale_rewards(state, [factors.get(term, 1.0) for term in self._scaled])

    def tree(self, state: State) -> dict[str, Any]:
        """Nested dicts of arrays."""
        return state_tree(state)

    def restored(self, state: State, tree: dict[str, Any]) -> State:
        """The state that ``tree`` was taken of; raises ValueError when it does not fit."""
        return restored(state, tree)
