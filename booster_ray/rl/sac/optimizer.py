"""AdamW whose every number may be an argument of compiled code."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

EPSILON = 1e-8
"""Added to the root of the second moment, as in optax."""


class Decay(NamedTuple):
    """How fast a running mean forgets; float32 () each."""

    kept: jax.Array
    """Weight of what was."""
    new: jax.Array
    """1 - ``kept``, subtracted in float64: in float32 the last bits would be lost."""


class Rates(NamedTuple):
    """The numbers of one optimizer, float32 () each."""

    lr: jax.Array
    """Learning rate."""
    b1: Decay
    """Of the first moment."""
    b2: Decay
    """Of the second moment."""
    weight_decay: jax.Array | None = None
    """Of AdamW; None: plain Adam."""
    max_norm: jax.Array | None = None
    """Gradients are scaled down to this norm over all leaves; None: never."""


def decay(kept: float) -> Decay:
    """The decay that a config names."""
    return Decay(jnp.float32(kept), jnp.float32(1.0 - kept))


def optimizer(rates: Rates) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019), behind a clip where asked.

    The same to the bit as ``optax.adam`` and ``optax.adamw``, whose states it has.
    """
    parts = [_scale_by_adam(rates.b1, rates.b2), optax.scale(-rates.lr)]
    if rates.weight_decay is not None:
        parts.insert(1, optax.add_decayed_weights(rates.weight_decay))
    adam = optax.chain(*parts)
    if rates.max_norm is None:
        return adam
    # Pascanu et al. 2013, "On the Difficulty of Training Recurrent Neural Networks".
    return optax.chain(optax.clip_by_global_norm(rates.max_norm), adam)


def _scale_by_adam(b1: Decay, b2: Decay) -> optax.GradientTransformation:
    """``optax.scale_by_adam``, which would subtract a decay from 1 in float32."""

    def second(grad: jax.Array, was: jax.Array) -> jax.Array:
        new, kept = b2.new * grad**2, b2.kept * was
        # The order decides which product is rounded before the sum. It is the one that XLA takes
        # where decays are constants, as in runs of earlier releases: another one for a scalar.
        return new + kept if grad.ndim else kept + new

    def update(
        grads: Any, state: optax.ScaleByAdamState, params: Any = None
    ) -> tuple[Any, optax.ScaleByAdamState]:
        del params
        mu = jax.tree.map(lambda g, m: b1.new * g + b1.kept * m, grads, state.mu)
        nu = jax.tree.map(second, grads, state.nu)
        count = optax.safe_increment(state.count)
        bias1, bias2 = (1 - b.kept**count for b in (b1, b2))

        def scaled(m: jax.Array, v: jax.Array) -> jax.Array:
            return m / bias1 / (jnp.sqrt(v / bias2) + EPSILON)

        return jax.tree.map(scaled, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)
