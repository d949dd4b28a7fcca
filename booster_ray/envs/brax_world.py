"""Brax's own environments as worlds on the device, with respawns and time that Brax leaves out."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from booster_ray.config import Config
from booster_ray.config.kinds import kind_of
from booster_ray.envs.brax_mjx import State, envs
from booster_ray.envs.mjx import Outcome
from booster_ray.runtime.programs import Programs

_BEGIN: Programs[Callable[..., State]] = Programs(2)

EPISODE_STEPS = 1000
"""Control steps until truncation, as in Brax's own training."""


class Episodes(NamedTuple):
    """A batch of episodes; all arrays lead with (num_envs,)."""

    now: State
    key: jax.Array
    """uint32 (num_envs, 2): of each world's respawns."""
    steps: jax.Array
    """int32: control steps since the respawn."""
    returns: jax.Array
    """float32: sum of rewards since the respawn."""


class BraxDynamics:
    """Any environment of ``brax.envs`` by name; see :class:`booster_ray.envs.device.Dynamics`.

    A world whose state is no longer finite terminates with reward 0, and its record says ``lost``.

    Args:
        name: an environment, or ``environment/backend``.
        num_envs: worlds in the batch.
        episode_steps: control steps until truncation.

    Raises:
        ValueError: Brax refuses the backend.
    """

    @classmethod
    def from_config(cls, config: Config, num_envs: int) -> BraxDynamics:
        """The environments that a config names."""
        return cls(kind_of(config.world.kind)[1], num_envs)

    def __init__(self, name: str, num_envs: int, episode_steps: int = EPISODE_STEPS) -> None:
        env_name, _, backend = name.partition("/")
        options = {"backend": backend} if backend else {}
        self._env = envs.get_environment(env_name, **options)
        self._episode_steps = episode_steps
        # Brax's test environment has no physics and so no time.
        self._seconds = float(getattr(self._env, "dt", 1.0))
        self.num_envs = num_envs
        self.observation_size = int(self._env.observation_size)
        self.action_size = int(self._env.action_size)
        self.tasks: tuple[int, ...] = (0,)
        self.terms: tuple[str, ...] = ()
        self.numbers: tuple[()] = ()
        self.structure: Hashable = ("brax", name, num_envs, episode_steps)
        self._begin = _BEGIN.of(self.structure, lambda: jax.jit(jax.vmap(self._env.reset)))

    def bound(self, numbers: Any) -> BraxDynamics:
        """These worlds: they have no numbers that may differ."""
        return self

    def start(self, seed: int) -> Episodes:
        """Every episode at its begin, each world with its own stream."""
        keys = jax.random.split(jax.random.PRNGKey(seed), 2 * self.num_envs)
        n = self.num_envs
        return Episodes(
            self._begin(keys[:n]), keys[n:], jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.float32)
        )

    def observation(self, state: Episodes) -> jax.Array:
        """(num_envs, observation_size)."""
        return state.now.obs

    def advance(self, state: Episodes, action: jax.Array) -> tuple[Episodes, Outcome]:
        """One control step; see :class:`booster_ray.envs.device.Dynamics`."""
        now = jax.vmap(self._env.step)(state.now, jnp.clip(action, -1.0, 1.0))
        lost = ~(jnp.isfinite(now.obs).all(axis=-1) & jnp.isfinite(now.reward))
        final = jnp.where(lost[:, None], 0.0, now.obs)
        reward = jnp.where(lost, 0.0, now.reward)
        steps, returns = state.steps + 1, state.returns + reward
        terminated = lost | (now.done > 0)
        truncated = (steps >= self._episode_steps) & ~terminated
        over = terminated | truncated
        now, key = self._respawn(now, state.key, over)
        record = {"return": returns, "seconds": steps * self._seconds, "score": returns}
        record["lost"] = lost
        outcome = Outcome(
            observation=now.obs,
            final_observation=final,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            recorded=over,
            episodes={"task": jnp.zeros_like(steps), **record},
            dropped=jnp.zeros(()),
        )
        following = Episodes(now, key, jnp.where(over, 0, steps), jnp.where(over, 0.0, returns))
        return following, outcome

    def _respawn(self, now: State, key: jax.Array, over: jax.Array) -> tuple[State, jax.Array]:
        """Fresh episodes where the old ones are over; costs nothing in a step without any."""

        def where_over(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(over.reshape(-1, *[1] * (old.ndim - 1)), new.astype(old.dtype), old)

        def fresh() -> tuple[State, jax.Array]:
            keys = jax.vmap(jax.random.split)(key)
            born = jax.vmap(self._env.reset)(keys[:, 0])
            return jax.tree.map(where_over, born, now), where_over(keys[:, 1], key)

        return jax.lax.cond(over.any(), fresh, lambda: (now, key))

    def tree(self, state: Episodes) -> dict[str, Any]:
        """Nested dicts of arrays."""
        return serialization.to_state_dict(state)

    def restored(self, state: Episodes, tree: dict[str, Any]) -> Episodes:
        """The state that ``tree`` was taken of.

        Raises:
            ValueError: it is of another environment or number of worlds.
        """
        found = serialization.from_state_dict(state, tree)
        wrong = [
            np.shape(b)
            for a, b in zip(*map(jax.tree.leaves, (state, found)), strict=True)
            if a.shape != np.shape(b)
        ]
        if wrong:
            raise ValueError(
                f"world state has parts of shape {wrong[0]}; expected {state.key.shape}"
            )
        return jax.tree.map(lambda a, b: jnp.asarray(b, a.dtype), state, found)
