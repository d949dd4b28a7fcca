from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.rl.nstep import fold

G = 0.9


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_windows_against_a_loop(xp: ModuleType, n: int) -> None:
    rng = np.random.default_rng(n)
    reward = rng.normal(size=(n, 200)).astype(np.float32)
    terminated = (rng.random((n, 200)) < 0.15).astype(np.float32)
    ended = (terminated > 0) | (rng.random((n, 200)) < 0.15)
    total, follow, last = fold(*(xp.asarray(x) for x in (reward, terminated, ended)), G)
    for i in range(200):
        value, k = 0.0, 0
        while True:
            value += G**k * reward[k, i]
            if ended[k, i] or k == n - 1:
                break
            k += 1
        assert last[i] == k
        assert total[i] == pytest.approx(value, rel=1e-5, abs=1e-6)
        assert follow[i] == pytest.approx(G ** (k + 1) * (1 - terminated[k, i]), rel=1e-5)
    assert total.dtype == follow.dtype == np.float32


def test_one_step_is_the_plain_transition() -> None:
    reward, terminated = np.float32([[1, 2, 3]]), np.float32([[0, 1, 0]])
    total, follow, last = fold(reward, terminated, terminated > 0, G)
    np.testing.assert_array_equal(total, reward[0])
    np.testing.assert_array_equal(follow, np.float32(G) * (1 - terminated[0]))
    np.testing.assert_array_equal(last, 0)
