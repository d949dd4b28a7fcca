"""Actor and critics: MLPs with optional LayerNorm, and the tanh-squashed Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": nn.silu,
    "relu": nn.relu,
    "elu": nn.elu,
}

HEAD_SCALE = 0.01
"""Variance scale of the heads: an untrained actor's mean is near zero (Andrychowicz et al.
2021, "What Matters in On-Policy RL", choice C57), an untrained critic's value too."""


class MLP(nn.Module):
    """Dense layers, each with optional LayerNorm and an activation, then a linear head."""

    hidden: Sequence[int]
    outputs: int
    activation: str
    layer_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Shape: (..., inputs) → (..., outputs)."""
        for width in self.hidden:
            x = nn.Dense(width)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
        head = nn.initializers.variance_scaling(HEAD_SCALE, "fan_in", "uniform")
        return nn.Dense(self.outputs, kernel_init=head)(x)


class TwinCritic(nn.Module):
    """Two independent Q networks, evaluated together."""

    hidden: Sequence[int]
    activation: str
    layer_norm: bool

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Shapes: (..., obs), (..., act) → (2, ...)."""
        twins = nn.vmap(
            MLP, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2
        )
        inputs = jnp.concatenate([observation, action], axis=-1)
        return twins(self.hidden, 1, self.activation, self.layer_norm)(inputs)[..., 0]


def split_head(
    output: jax.Array, log_std_min: float, log_std_max: float
) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation from the actor's head. Shape: (..., 2·act) → 2 × (..., act).

    The log standard deviation is squashed smoothly into its bounds, so that its gradient does
    not vanish there as with a clip.
    """
    mean, raw = jnp.split(output, 2, axis=-1)
    log_std = log_std_min + 0.5 * (log_std_max - log_std_min) * (jnp.tanh(raw) + 1.0)
    return mean, log_std


def sample_squashed(
    mean: jax.Array, log_std: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A tanh-squashed Gaussian action and its log-probability. Shapes: (..., act), (...).

    log π(a) = log N(u) - Σ log(1 - tanh² u), with log(1 - tanh² u) written as
    2 (log 2 - u - softplus(-2u)), which does not underflow (Haarnoja et al. 2018, appendix C;
    the form is that of TensorFlow Probability's Tanh bijector).
    """
    noise = jax.random.normal(key, mean.shape)
    u = mean + jnp.exp(log_std) * noise
    normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    squash = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
    return jnp.tanh(u), jnp.sum(normal - squash, axis=-1)
