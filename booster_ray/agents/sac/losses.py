"""SAC's three losses (Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from booster_ray.agents.sac.networks import sample_squashed

Params = Any
Array = Any
"""A NumPy array on its way to the learner, a JAX array within."""
ActorFn = Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]
"""(params, observation) → mean and log standard deviation, each (batch, act)."""
CriticFn = Callable[[Params, jax.Array, jax.Array], jax.Array]
"""(params, observation, action) → (2, batch)."""


class Batch(NamedTuple):
    """Transitions with normalized observations."""

    observation: Array
    """(batch, obs)."""
    action: Array
    """(batch, act) in [-1, 1]."""
    reward: Array
    """(batch,)."""
    next_observation: Array
    """(batch, obs): the true one, also where the episode was truncated."""
    terminated: Array
    """(batch,) 1.0 where nothing follows; a truncation is not a termination."""


def critic_loss(
    critic: Params,
    target_critic: Params,
    actor: Params,
    alpha: jax.Array,
    batch: Batch,
    discount: float,
    key: jax.Array,
    *,
    actor_fn: ActorFn,
    critic_fn: CriticFn,
) -> tuple[jax.Array, jax.Array]:
    """Mean squared soft Bellman error of both critics (eq. 5-6), and the mean Q."""
    action, log_prob = sample_squashed(*actor_fn(actor, batch.next_observation), key)
    following = jnp.min(critic_fn(target_critic, batch.next_observation, action), axis=0)
    soft_value = following - alpha * log_prob
    target = batch.reward + discount * (1.0 - batch.terminated) * soft_value
    q = critic_fn(critic, batch.observation, batch.action)
    return jnp.mean((q - jax.lax.stop_gradient(target)) ** 2), jnp.mean(q)


def actor_loss(
    actor: Params,
    critic: Params,
    alpha: jax.Array,
    batch: Batch,
    key: jax.Array,
    *,
    actor_fn: ActorFn,
    critic_fn: CriticFn,
) -> tuple[jax.Array, jax.Array]:
    """E[α log π - min Q] by reparameterization (eq. 7, 9), and the mean log-probability."""
    action, log_prob = sample_squashed(*actor_fn(actor, batch.observation), key)
    q = jnp.min(critic_fn(critic, batch.observation, action), axis=0)
    return jnp.mean(alpha * log_prob - q), jnp.mean(log_prob)


def alpha_loss(log_alpha: jax.Array, log_prob: jax.Array, target_entropy: float) -> jax.Array:
    """Temperature loss -α (log π + H̄) (eq. 18)."""
    return -jnp.exp(log_alpha) * jax.lax.stop_gradient(log_prob + target_entropy)
