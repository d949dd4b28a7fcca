"""Products as NVIDIA's GPUs since Ampere make them, unless they are asked for all of float32."""

from typing import Any

import jax
import jax.numpy as jnp


def tf32(x: jax.Array, weight: jax.Array, dimensions: Any, *_: Any, **__: Any) -> jax.Array:
    """For ``networks.MATMULS``: operands keep 10 bits of their mantissa."""

    def rounded(values: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
        half, cut = jnp.uint32(0x1000), jnp.uint32(0xFFFFE000)
        return jax.lax.bitcast_convert_type((bits + half) & cut, jnp.float32)

    if jax.config.jax_default_matmul_precision != "highest":
        x, weight = rounded(x), rounded(weight)
    return jax.lax.dot_general(x, weight, dimensions)
