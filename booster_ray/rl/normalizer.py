"""Running mean and variance of observations, as a pure state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CLIP = 10.0
"""Normalized observations are clipped to ±CLIP (Brax clips nothing, SB3 clips at 10)."""


class Normalizer(NamedTuple):
    """Sufficient statistics of all observations seen."""

    seen: jax.Array
    """() float32: how many."""
    mean: jax.Array
    """(obs,)."""
    square: jax.Array
    """(obs,): sum of squared deviations from the mean."""


def init(size: int) -> Normalizer:
    """Statistics of nothing, under which :func:`normalize` is the identity up to the clip."""
    return Normalizer(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))


def update(state: Normalizer, batch: jax.Array) -> Normalizer:
    """Merge a batch (n, obs) into the statistics (Chan et al. 1979, parallel variance)."""
    n = jnp.float32(batch.shape[0])
    count = state.seen + n
    mean = jnp.mean(batch, axis=0)
    delta = mean - state.mean
    return Normalizer(
        seen=count,
        mean=state.mean + delta * n / count,
        square=state.square
        + jnp.sum((batch - mean) ** 2, axis=0)
        + delta**2 * state.seen * n / count,
    )


def of(observation: np.ndarray) -> Normalizer:
    """Statistics of (n, obs) that are all there at once, summed in float64."""
    mean = observation.mean(axis=0, dtype=np.float64)
    square = observation.var(axis=0, dtype=np.float64) * len(observation)
    return Normalizer(
        *(jnp.asarray(part, jnp.float32) for part in (len(observation), mean, square))
    )


def deviation(state: Normalizer) -> jax.Array:
    """Standard deviation, 1 where nothing has varied yet. (obs,)."""
    variance = state.square / jnp.maximum(state.seen, 1.0)
    # Constant inputs (the unused one-hots, the team) must not blow up when one moves by 1e-6.
    return jnp.where(variance > 1e-6, jnp.sqrt(variance), 1.0)


def normalize(state: Normalizer, observation: jax.Array) -> jax.Array:
    """(observation - mean) / deviation, clipped. Shape: (..., obs)."""
    return jnp.clip((observation - state.mean) / deviation(state), -CLIP, CLIP)
