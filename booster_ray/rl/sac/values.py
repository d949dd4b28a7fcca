"""What a critic's output means: a scalar Q, or a distribution of returns over atoms (C51).

Both come as the same three functions, so that the losses need not know which one they train.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class ValueHead(NamedTuple):
    """Twin outputs ``(2, batch, ...)`` of a critic as values, targets and a loss."""

    value: Callable[[jax.Array], jax.Array]
    """Output → expected returns (2, batch)."""
    combine: Callable[[jax.Array], jax.Array]
    """Values of both twins (2, batch) → the one that the actor climbs (batch,)."""
    target: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    """(next output, reward, discount, entropy cost α log π), each (batch,) but the first →
    what both twins learn: Q values (batch,) or probabilities (batch, atoms)."""
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    """(output, target) → a scalar."""
    metrics: Callable[[jax.Array], dict[str, jax.Array]] = lambda target: {}
    """Numbers of what is learned, (target) → scalars by name."""


COMBINE: dict[str, Callable[..., jax.Array]] = {"min": jnp.min, "mean": jnp.mean}
"""How two critics become one: the lower (clipped double Q-learning, Fujimoto et al. 2018,
"Addressing Function Approximation Error in Actor-Critic Methods", TD3), or their mean, which
FastSAC's actor climbs (Seo et al. 2025, "Learning Sim-to-Real Humanoid Locomotion in 15
Minutes")."""


def scalar(q_target: str) -> ValueHead:
    """The scalar Q of SAC: squared error to r + γ (Q' - α log π') (Haarnoja et al. 2018, eq. 5-6).

    Args:
        q_target: ``min`` or ``mean``, see :data:`COMBINE`.
    """
    combine = partial(COMBINE[q_target], axis=0)

    def target(
        following: jax.Array, reward: jax.Array, discount: jax.Array, cost: jax.Array
    ) -> jax.Array:
        return reward + discount * (combine(following) - cost)

    def loss(output: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.mean((output - target) ** 2)

    return ValueHead(lambda output: output, combine, target, loss)


def c51(q_target: str, support: jax.Array) -> ValueHead:
    """A categorical distribution of returns (Bellemare et al. 2017, "A Distributional
    Perspective on Reinforcement Learning", C51).

    The entropy cost shifts the return of the next state, as in FastSAC. ``min`` takes, for each
    transition, the whole distribution of the twin whose expected return is lower, as FastTD3
    does (Seo et al. 2025, "FastTD3"). ``mean`` averages the two distributions (FastSAC, also
    without a minimum, has each critic learn from its own target). The loss is the cross-entropy
    to the target's projection, summed over the twins as FastTD3 and FastSAC sum them.

    Args:
        q_target: ``min`` or ``mean``.
        support: float32 (atoms,), the returns that the distribution is over, evenly spaced; what
            falls beyond an end counts as this. FastTD3 and FastSAC use 101 atoms, C51 51.
    """
    v_min, v_max = support[0], support[-1]

    def expected(probabilities: jax.Array) -> jax.Array:
        # A GPU's default precision would cost returns of 20 a hundredth.
        return jnp.matmul(probabilities, support, precision=jax.lax.Precision.HIGHEST)

    def value(output: jax.Array) -> jax.Array:
        return expected(jax.nn.softmax(output))

    def target(
        following: jax.Array, reward: jax.Array, discount: jax.Array, cost: jax.Array
    ) -> jax.Array:
        twins = jax.nn.softmax(following)
        if q_target == "mean":
            chosen = jnp.mean(twins, axis=0)
        else:
            first, second = expected(twins)
            chosen = jnp.where((first <= second)[..., None], twins[0], twins[1])
        returns = reward[..., None] + discount[..., None] * (support - cost[..., None])
        return project(chosen, returns, v_min, v_max)

    def loss(output: jax.Array, target: jax.Array) -> jax.Array:
        return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(output), axis=(0, -1)))

    def edges(target: jax.Array) -> dict[str, jax.Array]:
        return {"edge_mass": jnp.mean(target[..., 0] + target[..., -1])}

    return ValueHead(value, partial(COMBINE[q_target], axis=0), target, loss, edges)


def project(
    probabilities: jax.Array,
    returns: jax.Array,
    v_min: jax.Array | float,
    v_max: jax.Array | float,
) -> jax.Array:
    """Project mass at any returns onto evenly spaced atoms (Bellemare et al. 2017, eq. 7).

    Each mass goes to its two neighbouring atoms in proportion to its nearness, and to an end
    where it lies beyond. A scatter-add: on GPUs the order of its sums is not fixed.

    Args:
        probabilities: (batch, atoms).
        returns: (batch, atoms), where those masses lie.
        v_min: return of the first atom.
        v_max: return of the last atom.

    Returns:
        (batch, atoms), of the same sum.
    """
    atoms = probabilities.shape[-1]
    place = (jnp.clip(returns, v_min, v_max) - v_min) * ((atoms - 1) / (v_max - v_min))
    # Rounding may carry the last place beyond the last atom.
    place = jnp.minimum(place, atoms - 1)
    below = jnp.floor(place)
    share = place - below
    low = below.astype(jnp.int32)
    # On an atom the share above is zero, also at the last one, where there is none above.
    high = jnp.minimum(low + 1, atoms - 1)

    # One row at a time under vmap: so the compiler sees that devices need not exchange rows.
    def scatter(mass: jax.Array, share: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        lower = jnp.zeros_like(mass).at[low].add(mass * (1.0 - share))
        return lower.at[high].add(mass * share)

    return jax.vmap(scatter)(probabilities, share, low, high)
