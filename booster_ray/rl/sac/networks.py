"""Actor and critics: MLPs with optional LayerNorm, and the tanh-squashed Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

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


def bfloat16_dot(
    x: jax.Array,
    weight: jax.Array,
    dimensions: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """A product whose factors, and those of its gradients, are rounded to bfloat16.

    Parameters, sums of gradients, biases, LayerNorm and activations stay in float32
    (Micikevicius et al. 2018, "Mixed Precision Training"; bfloat16 has float32's range and needs
    no loss scaling, Kalamkar et al. 2019). The result is float32.
    """
    del preferred_element_type
    half = jnp.bfloat16
    # A bfloat16 result is what makes the cotangents, hence the backward products, bfloat16 too.
    out = jax.lax.dot_general(x.astype(half), weight.astype(half), dimensions, precision)
    return out.astype(jnp.float32)


MATMULS: dict[str, Callable[..., jax.Array]] = {
    "float32": jax.lax.dot_general,
    "bfloat16": bfloat16_dot,
}


class MLP(nn.Module):
    """Dense layers, each with optional LayerNorm and an activation, then a linear head."""

    hidden: Sequence[int]
    outputs: int
    activation: str
    layer_norm: bool
    matmul: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Shape: (..., inputs) → (..., outputs)."""
        dot = MATMULS[self.matmul]
        for width in self.hidden:
            x = nn.Dense(width, dot_general=dot)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
        head = nn.initializers.variance_scaling(HEAD_SCALE, "fan_in", "uniform")
        return nn.Dense(self.outputs, kernel_init=head, dot_general=dot)(x)


class TwinCritic(nn.Module):
    """Two independent critics, evaluated together: Q values, or logits over ``atoms`` returns."""

    hidden: Sequence[int]
    activation: str
    layer_norm: bool
    atoms: int | None = None
    """Atoms of a distributional critic; None: a scalar Q."""
    matmul: str = "float32"

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Shapes: (..., obs), (..., act) → (2, ...), or (2, ..., atoms) where there are atoms."""
        twins = nn.vmap(
            MLP, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2
        )
        inputs = jnp.concatenate([observation, action], axis=-1)
        style = self.activation, self.layer_norm, self.matmul
        out = twins(self.hidden, self.atoms or 1, *style)(inputs)
        return out if self.atoms else out[..., 0]


def split_head(
    output: jax.Array, log_std_min: jax.Array | float, log_std_max: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation from the actor's head. Shape: (..., 2·act) → 2 × (..., act).

    The log standard deviation is squashed smoothly into its bounds, so that its gradient does
    not vanish there as with a clip.
    """
    mean, raw = jnp.split(output, 2, axis=-1)
    log_std = log_std_min + 0.5 * (log_std_max - log_std_min) * (jnp.tanh(raw) + 1.0)
    return mean, log_std


def squashed(mean: jax.Array, log_std: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A tanh-squashed Gaussian action for standard normal noise, and its log-probability.

    log π(a) = log N(u) - Σ log(1 - tanh² u), with log(1 - tanh² u) written as
    2 (log 2 - u - softplus(-2u)), which does not underflow (Haarnoja et al. 2018, appendix C;
    the form is that of TensorFlow Probability's Tanh bijector).

    Shapes: 3 × (..., act) → (..., act), (...).
    """
    u = mean + jnp.exp(log_std) * noise
    normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    squash = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
    return jnp.tanh(u), jnp.sum(normal - squash, axis=-1)
