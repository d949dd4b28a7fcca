"""The learner's update and its state, on a small problem."""

import warnings
from typing import Any

import jax
import numpy as np
import pytest

from booster_ray.config import SAC
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch

OBS, ACT, BATCH = 4, 2, 16
CONFIG = SAC(
    actor_hidden=(8,), critic_hidden=(8,), batch_size=BATCH, tau=0.1, init_alpha=0.3,
    actor_lr=1e-2, critic_lr=1e-2, alpha_lr=1e-2, target_entropy=5.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def sac() -> Sac:
    return Sac(CONFIG, OBS, ACT)


def batches(updates: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    shape = updates, BATCH
    observation, following = rng.normal(3, 2, (2, *shape, OBS)).astype(np.float32)
    action = rng.uniform(-1, 1, (*shape, ACT)).astype(np.float32)
    reward = rng.normal(size=shape).astype(np.float32)
    return Batch(observation, action, reward, following, (reward > 1).astype(np.float32))


def started(sac: Sac, seed: int = 0) -> SacState:
    """A state that has seen observations."""
    state, _ = sac.act(sac.init(seed), batches(1).observation[0])
    return state


def host(tree: Any) -> Any:
    """A copy that donation cannot take away."""
    return jax.tree.map(np.array, tree)


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, host(first), host(second)))


def trained(sac: Sac, seed: int) -> SacState:
    state = started(sac, seed)
    for i in range(5):
        state, _ = sac.act(state, batches(1, i).observation[0])
        state, _ = sac.update(state, batches(4, i))
    return state


def test_same_seed_same_bits(sac: Sac) -> None:
    first, second = host(trained(sac, 3)), host(trained(sac, 3))
    assert same(first, second)
    assert not same(first.actor, trained(sac, 4).actor)


def test_every_part_of_the_state_learns(sac: Sac) -> None:
    before = host(started(sac))
    after, metrics = sac.update(started(sac), batches(4))
    assert after.updates == 4
    changed = {
        name: not same(getattr(before, name), getattr(after, name)) for name in before._fields
    }
    # actor_metrics: nothing, unless actor updates are rarer than critic updates
    assert {name for name, moved in changed.items() if not moved} == {"normalizer", "actor_metrics"}
    assert set(metrics) == {
        "critic_loss", "actor_loss", "alpha", "entropy", "q", "q_max", "log_std",
        "critic_grad_norm", "actor_grad_norm",
    }  # fmt: skip
    assert all(np.shape(v) == () and np.isfinite(v) for v in metrics.values())


def test_many_updates_in_a_call_equal_as_many_calls(sac: Sac) -> None:
    together, mean = sac.update(started(sac), batches(4))
    state, each = started(sac), []
    for i in range(4):
        one = jax.tree.map(lambda part, i=i: part[i : i + 1], batches(4))
        state, metrics = sac.update(state, one)
        each.append(host(metrics))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.key, together.key)
    for name, value in mean.items():
        np.testing.assert_allclose(value, np.mean([m[name] for m in each]), rtol=1e-4, atol=1e-6)


def test_target_critic_takes_a_step_of_tau(sac: Sac) -> None:
    before = host(trained(sac, 0))
    after, _ = sac.update(trained(sac, 0), batches(1))
    for old, new, critic in zip(
        *map(jax.tree.leaves, (before.target_critic, after.target_critic, after.critic)),
        strict=True,
    ):
        mixed = (1 - CONFIG.tau) * old + CONFIG.tau * np.asarray(critic)
        np.testing.assert_allclose(new, mixed, rtol=1e-5, atol=1e-7)


def test_temperature_rises_while_entropy_is_below_its_target(sac: Sac) -> None:
    before = float(started(sac).log_alpha)
    state, metrics = sac.update(started(sac), batches(1))
    assert metrics["entropy"] < 2 * np.log(2) < CONFIG.target_entropy  # the most in [-1, 1]²
    assert state.log_alpha > before


def test_update_takes_its_state_over_without_complaint(sac: Sac) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = sac.init(0)  # target and critic start equal: their buffers must not be one
        for _ in range(2):
            state, _ = sac.update(state, batches(4))
        assert np.isfinite(sac.act_mean(state, batches(1).observation[0])).all()


def test_exploring_counts_observations_and_exploiting_changes_nothing(sac: Sac) -> None:
    observation = batches(1).observation[0]
    state = sac.init(0)
    seen, action = sac.act(state, observation)
    assert seen.normalizer.seen == BATCH
    np.testing.assert_allclose(seen.normalizer.mean, observation.mean(axis=0), rtol=1e-5)
    assert not np.array_equal(seen.key, state.key)
    assert action.shape == (BATCH, ACT)
    assert np.abs(action).max() <= 1
    _, again = sac.act(seen, observation)
    assert not np.array_equal(action, again)
    greedy = sac.act_mean(seen, observation)
    np.testing.assert_array_equal(greedy, sac.act_mean(seen, observation))
    assert np.abs(greedy).max() < np.abs(action).max()


def test_observations_are_normalized_where_asked(sac: Sac) -> None:
    plain = Sac(CONFIG.model_copy(update={"normalize_observations": False}), OBS, ACT)
    observation = batches(1).observation[0]
    state = started(sac)
    inputs = (observation - observation.mean(axis=0)) / observation.std(axis=0)
    expected = plain.act_mean(state, inputs)
    np.testing.assert_allclose(sac.act_mean(state, observation), expected, atol=1e-5)
    assert not np.allclose(plain.act_mean(state, observation), expected, atol=1e-3)
