import jax
import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.rl import normalizer
from booster_ray.rl.normalizer import CLIP, Normalizer, deviation, normalize

update = jax.jit(normalizer.update)


def streamed(data: np.ndarray, cuts: list[int]) -> Normalizer:
    state = normalizer.init(data.shape[1])
    for part in np.split(data, cuts):
        state = update(state, jnp.asarray(part))
    return state


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3, 300], list(range(10, 1000, 10))])
def test_streaming_equals_mean_and_variance_of_everything(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    # Drifting, of very different scales, and far from zero against their spread.
    data = rng.normal([0, 5, 1000], [1, 1e-2, 1], (1000, 3)) + np.linspace(0, 1, 1000)[:, None]
    data = data.astype(np.float32)
    state = streamed(data, cuts)
    exact = data.astype(np.float64)
    assert state.seen == 1000
    np.testing.assert_allclose(state.mean, exact.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(deviation(state), exact.std(axis=0), rtol=1e-2)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(normalize(state, data), np.clip(expected, -CLIP, CLIP), atol=0.05)


def test_constants_are_centred_and_not_blown_up() -> None:
    data = np.tile(np.float32([0.0, 1.0, -7.3]), (50, 1))
    state = streamed(data, [7, 20])
    np.testing.assert_array_equal(deviation(state), 1.0)
    np.testing.assert_allclose(normalize(state, data), 0.0, atol=1e-5)
    np.testing.assert_allclose(normalize(state, data + 1e-3), 1e-3, atol=1e-5)


def test_nothing_seen_is_the_identity() -> None:
    data = jnp.array([[-3.0, 0.0, 9.0]])
    np.testing.assert_array_equal(normalize(normalizer.init(3), data), data)


def test_clip() -> None:
    state = streamed(np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32), [])
    np.testing.assert_array_equal(normalize(state, jnp.array([1e9, -1e9])), [CLIP, -CLIP])
