"""The SAC learner: one explicit state, pure jitted functions over it."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from booster_ray.agents import normalizer
from booster_ray.agents.sac import losses
from booster_ray.agents.sac.losses import Batch, Params
from booster_ray.agents.sac.networks import MLP, TwinCritic, sample_squashed, split_head
from booster_ray.config import SAC

ADAM_B1 = 0.9


class SacState(NamedTuple):
    """Everything that learning changes."""

    actor: Params
    critic: Params
    target_critic: Params
    log_alpha: jax.Array
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    alpha_opt: optax.OptState
    normalizer: normalizer.Normalizer
    key: jax.Array
    updates: jax.Array
    """() int32: gradient updates made."""


class Sac:
    """Networks, optimizers and jitted functions for one configuration; holds no state.

    Args:
        config: hyperparameters.
        observation_size: numbers in an observation.
        action_size: numbers in an action, each in [-1, 1].
    """

    def __init__(self, config: SAC, observation_size: int, action_size: int) -> None:
        self.config = config
        self._sizes = observation_size, action_size
        style = config.activation, config.layer_norm
        self._actor = MLP(tuple(config.actor_hidden), 2 * action_size, *style)
        self._critic = TwinCritic(tuple(config.critic_hidden), *style)
        adam = partial(optax.adamw, b1=ADAM_B1, b2=config.adam_b2, weight_decay=config.weight_decay)
        self._actor_tx = adam(config.actor_lr)
        self._critic_tx = adam(config.critic_lr)
        self._alpha_tx = optax.adam(config.alpha_lr, b1=ADAM_B1, b2=config.adam_b2)
        self.init = jax.jit(self._init)
        self.act = jax.jit(self._act)
        self.act_mean = jax.jit(self._act_mean)
        self.update = jax.jit(self._update, donate_argnums=0)

    def _init(self, seed: jax.Array) -> SacState:
        key, actor_key, critic_key = jax.random.split(jax.random.key(seed), 3)
        observation, action = (jnp.zeros((1, size)) for size in self._sizes)
        actor = self._actor.init(actor_key, observation)
        critic = self._critic.init(critic_key, observation, action)
        log_alpha = jnp.log(jnp.float32(self.config.init_alpha))
        return SacState(
            actor=actor,
            critic=critic,
            target_critic=critic,
            log_alpha=log_alpha,
            actor_opt=self._actor_tx.init(actor),
            critic_opt=self._critic_tx.init(critic),
            alpha_opt=self._alpha_tx.init(log_alpha),
            normalizer=normalizer.init(self._sizes[0]),
            key=jax.random.key_data(key),
            updates=jnp.int32(0),
        )

    def _actor_fn(self, params: Params, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        output: Any = self._actor.apply(params, observation)
        return split_head(output, self.config.log_std_min, self.config.log_std_max)

    def _normalize(self, state: SacState, observation: jax.Array) -> jax.Array:
        if not self.config.normalize_observations:
            return observation
        return normalizer.normalize(state.normalizer, observation)

    def _act(self, state: SacState, observation: jax.Array) -> tuple[SacState, jax.Array]:
        """Explore: sample actions (n, act), and take the observations (n, obs) into account."""
        state = state._replace(normalizer=normalizer.update(state.normalizer, observation))
        key, use = jax.random.split(jax.random.wrap_key_data(state.key))
        head = self._actor_fn(state.actor, self._normalize(state, observation))
        action, _ = sample_squashed(*head, use)
        return state._replace(key=jax.random.key_data(key)), action

    def _act_mean(self, state: SacState, observation: jax.Array) -> jax.Array:
        """Exploit: the squashed mean, (n, obs) → (n, act)."""
        mean, _ = self._actor_fn(state.actor, self._normalize(state, observation))
        return jnp.tanh(mean)

    def _update(self, state: SacState, batches: Batch) -> tuple[SacState, dict[str, jax.Array]]:
        """One update for each of the stacked batches (updates, batch, ...); mean metrics."""
        batches = batches._replace(
            observation=self._normalize(state, batches.observation),
            next_observation=self._normalize(state, batches.next_observation),
        )
        state, metrics = jax.lax.scan(self._update_once, state, batches)
        return state, jax.tree.map(jnp.mean, metrics)

    def _update_once(self, state: SacState, batch: Batch) -> tuple[SacState, dict[str, jax.Array]]:
        key, critic_key, actor_key = jax.random.split(jax.random.wrap_key_data(state.key), 3)
        nets: dict[str, Any] = {"actor_fn": self._actor_fn, "critic_fn": self._critic.apply}
        alpha = jnp.exp(state.log_alpha)

        (c_loss, q), grads = jax.value_and_grad(losses.critic_loss, has_aux=True)(
            state.critic, state.target_critic, state.actor, alpha, batch,
            self.config.discount, critic_key, **nets,
        )  # fmt: skip
        change, critic_opt = self._critic_tx.update(grads, state.critic_opt, state.critic)
        critic = optax.apply_updates(state.critic, change)

        (a_loss, log_prob), grads = jax.value_and_grad(losses.actor_loss, has_aux=True)(
            state.actor, critic, alpha, batch, actor_key, **nets
        )
        change, actor_opt = self._actor_tx.update(grads, state.actor_opt, state.actor)
        actor = optax.apply_updates(state.actor, change)

        grad = jax.grad(losses.alpha_loss)(state.log_alpha, log_prob, self.config.target_entropy)
        change, alpha_opt = self._alpha_tx.update(grad, state.alpha_opt, state.log_alpha)

        new = state._replace(
            actor=actor,
            critic=critic,
            target_critic=optax.incremental_update(critic, state.target_critic, self.config.tau),
            log_alpha=optax.apply_updates(state.log_alpha, change),
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            alpha_opt=alpha_opt,
            key=jax.random.key_data(key),
            updates=state.updates + 1,
        )
        metrics = {
            "critic_loss": c_loss,
            "actor_loss": a_loss,
            "alpha": alpha,
            "entropy": -log_prob,
            "q": q,
        }
        return new, metrics
