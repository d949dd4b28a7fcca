"""Heads of critics against NumPy in double precision, atom by atom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from booster_ray.rl.sac.values import c51, project, scalar

N, ATOMS, LOW, HIGH = 9, 11, -2.0, 3.0
SUPPORT = np.linspace(LOW, HIGH, ATOMS)
draw = np.random.default_rng(0)
FOLLOWING = draw.normal(0, 2, (2, N, ATOMS)).astype(np.float32)
OUTPUT = draw.normal(0, 2, (2, N, ATOMS)).astype(np.float32)
REWARD = draw.normal(0, 2, N).astype(np.float32)
DISCOUNT = np.float32([0.9, 0, 0.9, 0.81, 1, 0, 0.9, 0.5, 0.729])
COST = draw.normal(0, 1, N).astype(np.float32)


def projected(probabilities: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Equation 7 of Bellemare et al. 2017, as it stands there."""
    step = SUPPORT[1] - SUPPORT[0]
    result = np.zeros_like(probabilities)
    for i, atom in enumerate(SUPPORT):
        distance = np.abs(np.clip(returns, LOW, HIGH) - atom) / step
        result[:, i] = (np.clip(1 - distance, 0, 1) * probabilities).sum(axis=1)
    return result


def test_projection() -> None:
    probabilities = softmax(FOLLOWING[0].astype(np.float64), axis=-1)
    returns = draw.normal(0, 3, (N, ATOMS))
    returns[0] = SUPPORT  # exactly on the atoms, the last one included
    returns[1], returns[2], returns[3] = 100.0, -100.0, HIGH
    result = jax.jit(project, static_argnums=(2, 3))(
        jnp.float32(probabilities), jnp.float32(returns), LOW, HIGH
    )
    np.testing.assert_allclose(result, projected(probabilities, returns), atol=1e-5)
    np.testing.assert_allclose(np.sum(result, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(result[0], probabilities[0], atol=1e-5)
    assert result[1, -1] == pytest.approx(1) == result[2, 0]


def test_projection_keeps_the_mean_of_what_lies_within() -> None:
    probabilities = softmax(FOLLOWING[1].astype(np.float64), axis=-1)
    returns = draw.uniform(LOW, HIGH, (N, ATOMS))
    result = project(jnp.float32(probabilities), jnp.float32(returns), LOW, HIGH)
    np.testing.assert_allclose(result @ SUPPORT, (probabilities * returns).sum(1), atol=1e-4)


@pytest.mark.parametrize("q_target", ["min", "mean"])
def test_distributional_target_and_loss(q_target: str) -> None:
    head = c51(q_target, jnp.linspace(LOW, HIGH, ATOMS))
    twins = softmax(FOLLOWING.astype(np.float64), axis=-1)
    lower = np.argmin(twins @ SUPPORT, axis=0)
    assert {*lower} == {0, 1}
    chosen = twins.mean(axis=0) if q_target == "mean" else twins[lower, np.arange(N)]
    returns = REWARD[:, None] + DISCOUNT[:, None] * (SUPPORT - COST[:, None])
    expected = projected(chosen, returns)
    target = head.target(FOLLOWING, REWARD, DISCOUNT, COST)
    np.testing.assert_allclose(target, expected, atol=1e-5)

    entropy = -(expected * log_softmax(OUTPUT.astype(np.float64), axis=-1)).sum(axis=-1)
    np.testing.assert_allclose(head.loss(OUTPUT, target), entropy.sum(axis=0).mean(), rtol=1e-5)
    value = softmax(OUTPUT.astype(np.float64), axis=-1) @ SUPPORT
    np.testing.assert_allclose(head.value(OUTPUT), value, rtol=1e-4, atol=1e-5)
    one = value.mean(axis=0) if q_target == "mean" else value.min(axis=0)
    np.testing.assert_allclose(head.combine(head.value(OUTPUT)), one, rtol=1e-4, atol=1e-5)


def test_loss_of_a_distribution_falls_to_the_targets_entropy() -> None:
    """The cross-entropy is least at the target itself, where its gradient vanishes."""
    head = c51("min", jnp.linspace(LOW, HIGH, ATOMS))
    target = jnp.float32(softmax(FOLLOWING[0], axis=-1))
    right = jnp.stack([FOLLOWING[0], FOLLOWING[0]])
    np.testing.assert_allclose(jax.grad(head.loss)(right, target), 0, atol=1e-6)
    assert head.loss(right, target) < head.loss(jnp.asarray(OUTPUT), target)


@pytest.mark.parametrize("q_target", ["min", "mean"])
def test_scalar_target_and_loss(q_target: str) -> None:
    head = scalar(q_target)
    following, output = FOLLOWING[..., 0], OUTPUT[..., 0]
    value = getattr(np, q_target)(following.astype(np.float64), axis=0)
    expected = REWARD + DISCOUNT * (value - COST)
    target = head.target(following, REWARD, DISCOUNT, COST)
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-6)
    loss = np.mean((output - expected) ** 2)
    np.testing.assert_allclose(head.loss(output, target), loss, rtol=1e-5)
    np.testing.assert_array_equal(head.value(output), output)


def test_mass_on_the_edges_is_told() -> None:
    head = c51("min", jnp.linspace(-2.0, 2.0, 5))
    target = jnp.array([[0.5, 0, 0, 0, 0.3], [0, 0.2, 0.8, 0, 0]])
    assert float(head.metrics(target)["edge_mass"]) == pytest.approx(0.4)
    assert scalar("min").metrics(jnp.zeros(2)) == {}
