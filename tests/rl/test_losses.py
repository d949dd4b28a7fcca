"""SAC's losses against a computation in NumPy, double precision, loops left to matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.rl.sac.losses import Batch, actor_loss, alpha_loss, critic_loss
from booster_ray.rl.sac.networks import MLP, TwinCritic, split_head
from booster_ray.rl.sac.values import scalar

OBS, ACT, N = 3, 2, 7
ALPHA, DISCOUNT = 0.3, 0.9
LOG_STD = -5.0, 2.0
ACTOR, CRITIC = MLP((6, 5), 2 * ACT, "silu", True), TwinCritic((6, 5), "silu", True)
NETS: dict[str, Any] = {
    "actor_fn": lambda params, x: split_head(ACTOR.apply(params, x), *LOG_STD),
    "critic_fn": CRITIC.apply,
    "head": scalar("min"),
}
KEY = jax.random.key(11)
NOISE = np.asarray(jax.random.normal(KEY, (N, ACT)))


def randomized(tree: Any, seed: int) -> Any:
    """Every leaf drawn anew: zero biases and tiny heads would hide mistakes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), tree)


X, A = jnp.zeros((N, OBS)), jnp.zeros((N, ACT))
actor = randomized(jax.eval_shape(ACTOR.init, KEY, X), 1)
critic = randomized(jax.eval_shape(CRITIC.init, KEY, X, A), 2)
target = randomized(critic, 3)
draw = np.random.default_rng(4)
BATCH = Batch(
    observation=draw.normal(size=(N, OBS)).astype(np.float32),
    action=draw.uniform(-1, 1, (N, ACT)).astype(np.float32),
    reward=draw.normal(size=N).astype(np.float32),
    next_observation=draw.normal(size=(N, OBS)).astype(np.float32),
    terminated=np.array([0, 1, 0, 0, 1, 0, 0], np.float32),
)


# --- the same in NumPy ---


def double(tree: Any, twin: int | None = None) -> Any:
    pick = slice(None) if twin is None else twin
    return jax.tree.map(lambda x: np.asarray(x, np.float64)[pick], tree)


def mlp(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    depth = sum(name.startswith("Dense") for name in params) - 1
    for i in range(depth):
        dense, scale = params[f"Dense_{i}"], params[f"LayerNorm_{i}"]
        x = x @ dense["kernel"] + dense["bias"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        x = x * scale["scale"] + scale["bias"]
        x = x / (1 + np.exp(-x))
    head = params[f"Dense_{depth}"]
    return x @ head["kernel"] + head["bias"]


def policy(params: Any, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Action and log-probability for NOISE."""
    mean, raw = np.split(mlp(params["params"], observation), 2, axis=-1)
    std = np.exp(np.interp(np.tanh(raw), [-1, 1], LOG_STD))
    u = mean + std * NOISE
    density = np.exp(-0.5 * ((u - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    return np.tanh(u), np.log(density / (1 - np.tanh(u) ** 2)).sum(-1)


def twins(params: Any, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
    inputs = np.concatenate([observation, action], axis=-1)
    (name,) = params["params"]
    return np.stack([mlp(double(params["params"][name], i), inputs)[:, 0] for i in (0, 1)])


def numpy_critic_loss(batch: Batch) -> tuple[float, float]:
    action, log_prob = policy(double(actor), batch.next_observation)
    value = twins(target, batch.next_observation, action).min(axis=0) - ALPHA * log_prob
    goal = np.where(batch.terminated > 0, batch.reward, batch.reward + DISCOUNT * value)
    q = twins(critic, batch.observation, batch.action)
    return float(np.mean((q - goal) ** 2)), float(q.mean())


def numpy_actor_loss(params: Any) -> tuple[float, float]:
    action, log_prob = policy(params, BATCH.observation)
    q = twins(critic, BATCH.observation, action).min(axis=0)
    return float(np.mean(ALPHA * log_prob - q)), float(log_prob.mean())


# --- tests ---


@jax.jit
def jax_critic_loss(batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    return critic_loss(critic, target, actor, jnp.float32(ALPHA), batch, DISCOUNT, NOISE, **NETS)


def test_critic_loss() -> None:
    loss, metrics = jax_critic_loss(BATCH)
    np.testing.assert_allclose((loss, metrics["q"]), numpy_critic_loss(BATCH), rtol=1e-4)
    q = twins(critic, BATCH.observation, BATCH.action)
    np.testing.assert_allclose(metrics["q_max"], q.max(), rtol=1e-4)


def test_a_batch_may_bring_its_own_discount() -> None:
    usual = DISCOUNT * (1 - BATCH.terminated)
    np.testing.assert_allclose(
        jax_critic_loss(BATCH._replace(discount=usual.astype(np.float32)))[0],
        jax_critic_loss(BATCH)[0],
        rtol=1e-6,
    )
    other = BATCH._replace(discount=np.full(N, DISCOUNT**3, np.float32))
    action, log_prob = policy(double(actor), BATCH.next_observation)
    value = twins(target, BATCH.next_observation, action).min(axis=0) - ALPHA * log_prob
    q = twins(critic, BATCH.observation, BATCH.action)
    expected = np.mean((q - (BATCH.reward + DISCOUNT**3 * value)) ** 2)
    np.testing.assert_allclose(jax_critic_loss(other)[0], expected, rtol=1e-4)


@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_only_termination_stops_bootstrapping(terminated: float) -> None:
    """A truncated transition has terminated 0: its true next observation must matter."""
    batch = BATCH._replace(terminated=np.full(N, terminated, np.float32))
    elsewhere = batch._replace(next_observation=batch.next_observation + 1)
    changed = jax_critic_loss(batch)[0] != jax_critic_loss(elsewhere)[0]
    assert changed == (not terminated)
    if terminated:
        q = twins(critic, batch.observation, batch.action)
        expected = np.mean((q - batch.reward) ** 2)
        np.testing.assert_allclose(jax_critic_loss(batch)[0], expected, rtol=1e-4)


def test_actor_loss_and_its_gradient() -> None:
    loss = lambda p: actor_loss(p, critic, jnp.float32(ALPHA), BATCH, NOISE, **NETS)  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(actor)
    loss_and_log_prob = value[0], -value[1]["entropy"]
    np.testing.assert_allclose(loss_and_log_prob, numpy_actor_loss(double(actor)), rtol=1e-4)
    _, raw = np.split(mlp(double(actor)["params"], BATCH.observation), 2, axis=-1)
    log_std = np.interp(np.tanh(raw), [-1, 1], LOG_STD).mean()
    np.testing.assert_allclose(value[1]["log_std"], log_std, rtol=1e-4)

    direction = double(randomized(actor, 5))
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradient, direction)))
    ahead, behind = (
        numpy_actor_loss(jax.tree.map(lambda p, d, s=s: p + s * d, double(actor), direction))[0]
        for s in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-3)


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (1.0, False)])
def test_alpha_loss_steers_entropy_to_its_target(entropy: float, rises: bool) -> None:
    log_alpha, target_entropy = jnp.float32(-1.0), -2.0
    value, slope = jax.value_and_grad(alpha_loss)(log_alpha, jnp.float32(-entropy), target_entropy)
    np.testing.assert_allclose(value, np.exp(-1.0) * (entropy - target_entropy), rtol=1e-6)
    assert (slope < 0) == rises


def test_alpha_loss_gives_the_actor_no_gradient() -> None:
    assert jax.grad(alpha_loss, argnums=1)(jnp.float32(0.0), jnp.float32(1.0), -2.0) == 0
