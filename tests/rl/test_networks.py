"""Networks and the squashed Gaussian against NumPy and SciPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from booster_ray.rl.sac.networks import MLP, TwinCritic, split_head, squashed

LOG_STD = -5.0, 2.0


@pytest.mark.parametrize("log_std", [-5.0, -1.0, 0.0, 0.7])
def test_log_prob_is_the_slope_of_the_distribution_of_the_action(log_std: float) -> None:
    mean = jnp.linspace(-1.5, 1.5, 101)[:, None]
    drawn = jax.random.normal(jax.random.key(1), mean.shape)
    action, log_prob = squashed(mean, jnp.full_like(mean, log_std), drawn)
    assert np.all(np.abs(action) <= 1)

    # The action is rounded to float32, where a density of width e^-5 moves: invert the noise.
    noise = np.asarray(drawn, np.float64)[:, 0]
    m, s = np.asarray(mean, np.float64)[:, 0], np.exp(log_std)
    a = np.tanh(m + s * noise)
    np.testing.assert_allclose(action[:, 0], a, atol=1e-6)
    inside = 1 - np.abs(a) > 1e-3
    assert inside.sum() > 50
    a, m, log_prob = a[inside], m[inside], np.asarray(log_prob)[inside]
    h = 1e-5 * s * (1 - a**2)
    slope = np.subtract(*(norm.cdf(np.arctanh(a + d), m, s) for d in (h, -h))) / (2 * h)
    np.testing.assert_allclose(log_prob, np.log(slope), atol=1e-4)


def test_log_prob_sums_over_actions() -> None:
    mean, log_std = jnp.array([[0.3, -0.4, 1.0]]), jnp.array([[-1.0, 0.0, 0.5]])
    action, log_prob = squashed(mean, log_std, jnp.array([[0.5, -1.0, 2.0]]))
    u = np.arctanh(np.asarray(action, np.float64))
    each = norm.logpdf(u, mean, np.exp(log_std)) - np.log(1 - np.tanh(u) ** 2)
    assert log_prob.shape == (1,)
    np.testing.assert_allclose(log_prob, each.sum(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("u", [-50.0, -20.0, 0.0, 20.0, 50.0])
@pytest.mark.parametrize("log_std", LOG_STD)
def test_log_prob_far_out_is_finite_with_a_finite_gradient(u: float, log_std: float) -> None:
    noise = jax.random.normal(jax.random.key(3), (1, 1))

    def log_prob(mean: jax.Array, log_std: jax.Array) -> jax.Array:
        return squashed(mean, log_std, noise)[1][0]

    mean = u - jnp.exp(log_std) * noise
    value, grads = jax.value_and_grad(jax.jit(log_prob), (0, 1))(mean, jnp.full((1, 1), log_std))
    # log(1 - tanh² u) = 2 (log 2 - |u| - log1p(e^(-2|u|))), exact for every u.
    squash = 2 * (np.log(2) - abs(u) - np.log1p(np.exp(-2 * abs(u))))
    np.testing.assert_allclose(value, norm.logpdf(noise[0, 0]) - log_std - squash, rtol=1e-4)
    # d/dmean of -log(1 - tanh² u) is 2 tanh u: no plateau, however far out.
    np.testing.assert_allclose(grads[0], 2 * np.tanh(u), atol=1e-3)
    assert np.isfinite(grads[1]).all()


def test_log_std_stays_within_its_bounds_and_moves_inside() -> None:
    raw = jnp.array([-1e6, -30.0, -1.0, 0.0, 1.0, 30.0, 1e6])
    mean, log_std = split_head(jnp.concatenate([7 * raw, raw]), *LOG_STD)
    np.testing.assert_array_equal(mean, 7 * raw)
    assert LOG_STD[0] == log_std[0] == log_std.min()
    assert LOG_STD[1] == log_std[-1] == log_std.max()
    assert log_std[3] == sum(LOG_STD) / 2
    assert np.all(np.diff(log_std[1:-1]) > 0)


def test_untrained_actor_is_near_the_default_pose() -> None:
    x = jax.random.normal(jax.random.key(0), (256, 9))
    net = MLP((32, 32), 4, "silu", True)
    output = jax.jit(net.apply)(jax.jit(net.init)(jax.random.key(1), x), x)
    assert output.shape == (256, 4)
    assert np.abs(output).max() < 0.5


def test_twins_are_two_different_critics_each_of_its_own_parameters() -> None:
    observation, action = jnp.ones((5, 3)), jnp.full((5, 2), 0.5)
    net = TwinCritic((8,), "relu", True)
    params = jax.jit(net.init)(jax.random.key(0), observation, action)
    q = jax.jit(net.apply)(params, observation, action)
    assert q.shape == (2, 5)
    assert not np.allclose(q[0], q[1])
    grads = jax.jit(jax.grad(lambda p: net.apply(p, observation, action)[0].sum()))(params)
    assert any(np.any(g[0] != 0) for g in jax.tree.leaves(grads))
    assert all(np.all(g[1] == 0) for g in jax.tree.leaves(grads))
