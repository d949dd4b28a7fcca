"""SAC's three losses (Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from booster_ray.rl.sac.networks import squashed
from booster_ray.rl.sac.values import ValueHead

Params = Any
Array = Any
"""A NumPy array on its way to the learner, a JAX array within."""
Metrics = dict[str, jax.Array]
ActorFn = Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]
"""(params, observation) → mean and log standard deviation, each (batch, act)."""
CriticFn = Callable[[Params, jax.Array, jax.Array], jax.Array]
"""(params, observation, action) → (2, batch), or (2, batch, atoms)."""


class Batch(NamedTuple):
    """Transitions, of one control step or of several (:mod:`booster_ray.rl.nstep`)."""

    observation: Array
    """(batch, obs)."""
    action: Array
    """(batch, act) in [-1, 1]."""
    reward: Array
    """(batch,); of several steps their discounted sum."""
    next_observation: Array
    """(batch, obs): the true one, also where the episode was truncated."""
    terminated: Array
    """(batch,) 1.0 where nothing follows; a truncation is not a termination."""
    discount: Array | None = None
    """(batch,): factor of the value that follows, γ^steps (1 - terminated); None: the learner's
    γ (1 - terminated), for transitions of one step."""
    demonstrated: Array | None = None
    """(batch, act): what a demonstrator would have done; None: there is none."""


def critic_loss(
    critic: Params,
    target_critic: Params,
    actor: Params,
    alpha: jax.Array,
    batch: Batch,
    discount: jax.Array | float,
    noise: jax.Array,
    *,
    actor_fn: ActorFn,
    critic_fn: CriticFn,
    head: ValueHead,
) -> tuple[jax.Array, Metrics]:
    """Soft Bellman error of both critics (eq. 5-6), the mean and maximum of Q, and the head's own.

    ``noise``: standard normal (batch, act), for the next action.
    """
    action, log_prob = squashed(*actor_fn(actor, batch.next_observation), noise)
    following = critic_fn(target_critic, batch.next_observation, action)
    factor = discount * (1.0 - batch.terminated) if batch.discount is None else batch.discount
    target = head.target(following, batch.reward, factor, alpha * log_prob)
    output = critic_fn(critic, batch.observation, batch.action)
    q = head.value(output)
    metrics = {"q": jnp.mean(q), "q_max": jnp.max(q)} | head.metrics(target)
    return head.loss(output, jax.lax.stop_gradient(target)), metrics


def imitation_loss(
    actor: Params, observation: jax.Array, action: jax.Array, *, actor_fn: ActorFn
) -> tuple[jax.Array, Metrics]:
    """Mean squared error of the squashed mean from demonstrated actions (batch, act)."""
    mean, _ = actor_fn(actor, observation)
    error = jnp.tanh(mean) - action
    return jnp.mean(error**2), {"action_error": jnp.mean(jnp.abs(error))}


def actor_loss(
    actor: Params,
    critic: Params,
    alpha: jax.Array,
    batch: Batch,
    noise: jax.Array,
    *,
    actor_fn: ActorFn,
    critic_fn: CriticFn,
    head: ValueHead,
    tasks: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """E[α log π - Q] by reparameterization (eq. 7, 9); entropy and mean log standard deviation.

    ``alpha``: (), or (batch,) of each transition's task. ``noise``: standard normal (batch, act),
    for the action. ``tasks``: one-hot (batch, tasks); then ``task_entropy``, (tasks,), is among the
    metrics, NaN of a task that the batch has not.
    """
    mean, log_std = actor_fn(actor, batch.observation)
    action, log_prob = squashed(mean, log_std, noise)
    q = head.combine(head.value(critic_fn(critic, batch.observation, action)))
    metrics = {"entropy": -jnp.mean(log_prob), "log_std": jnp.mean(log_std)}
    if tasks is not None:
        metrics["task_entropy"] = -jnp.sum(log_prob[:, None] * tasks, 0) / jnp.sum(tasks, 0)
    return jnp.mean(alpha * log_prob - q), metrics


def alpha_loss(
    log_alpha: jax.Array, log_prob: jax.Array, target_entropy: jax.Array | float
) -> jax.Array:
    """Temperature loss -α (log π + H̄) (eq. 18)."""
    return -jnp.exp(log_alpha) * jax.lax.stop_gradient(log_prob + target_entropy)


def task_alpha_loss(
    log_alpha: jax.Array, log_prob: jax.Array, target_entropy: jax.Array | float
) -> jax.Array:
    """The sum of :func:`alpha_loss` over tasks, (tasks,); NaN: the batch does not tell of one.

    Yu et al. 2020, "Meta-World", section 5: multi-task SAC learns a temperature for each task.
    """
    told = ~jnp.isnan(log_prob)
    known = jnp.where(told, log_prob, 0.0)
    return jnp.sum(jnp.where(told, alpha_loss(log_alpha, known, target_entropy), 0.0))
