"""Time of compilation is counted once, and not as training."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import pytest

from booster_ray.runtime.compile_clock import CompileClock


def test_spans_within_one_another_count_once() -> None:
    clock = CompileClock()
    clock.add(1.0, 2.0)
    clock.add(0.5, 3.0)  # within it the first one was
    clock.add(4.0, 5.0)
    assert clock.seconds_since(0.0) == 3.5
    assert clock.seconds_since(2.0) == 2.0
    assert clock.seconds_since(4.5) == 0.5
    assert clock.seconds_since(9.0) == 0.0


def test_jax_is_heard_and_a_second_call_compiles_nothing() -> None:
    clock = CompileClock()
    clock.start()
    clock.start()
    began = time.monotonic()
    twice = jax.jit(lambda x: jnp.sin(x) * began)
    twice(jnp.ones(3)).block_until_ready()
    compiled, elapsed = clock.seconds_since(began), time.monotonic() - began
    assert 0.0 < compiled <= elapsed
    again = time.monotonic()
    twice(jnp.ones(3)).block_until_ready()
    assert clock.seconds_since(again) == pytest.approx(0.0, abs=1e-3)
