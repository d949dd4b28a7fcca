"""Every option of the learner: it learns, it resumes bit for bit, and it does what it says."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.config import SAC
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.host import HostSac
from booster_ray.rl.sac.learner import Sac, SacState, numbers_of
from booster_ray.rl.sac.losses import Batch, critic_loss
from booster_ray.rl.sac.optimizer import optimizer
from booster_ray.rl.symmetry import Mirror, mirrored
from booster_ray.rl.tree import from_tree, to_tree

LANES, HORIZON = 16, 10
BASE: dict[str, Any] = {
    "actor_hidden": (32,), "critic_hidden": (32,), "batch_size": 64, "discount": 0.9, "tau": 0.1,
    "actor_lr": 3e-3, "critic_lr": 3e-3, "init_alpha": 0.1, "target_entropy": -4.0,
    "replay_size": 4096,
}  # fmt: skip
C51 = {"critic": "c51", "num_atoms": 31, "v_min": -10.0, "v_max": 2.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "mean": {"q_target": "mean"},
    "c51": {**C51},
    "c51 mean": {**C51, "q_target": "mean"},
    "actor_every": {"actor_every": 3},
    "max_grad_norm": {"max_grad_norm": 0.5, "adam_b1": 0.5},
    "bfloat16": {"matmul": "bfloat16"},
    "augment": {"symmetry": "augment"},
    "n_step": {"n_step": 3},
    "fastsac": {
        **C51, "q_target": "mean", "actor_every": 2, "matmul": "bfloat16", "symmetry": "augment",
        "n_step": 3,
    },
}  # fmt: skip
COMBINED = ("mean", "c51 mean", "actor_every", "bfloat16", "augment", "n_step")
"""Those that `fastsac` has too; alone they run with the slow tests."""
ALONE = [
    pytest.param(option, marks=pytest.mark.slow if option in COMBINED else ()) for option in OPTIONS
]
IMAGE = ((0, 1), (1, -1))
MIRROR = Mirror(IMAGE, IMAGE)


@cache
def learner(option: str) -> Sac:
    return Sac(SAC(**{**BASE, **OPTIONS[option]}), 2, 2, MIRROR)


class Play:
    """Points in a plane that are to go to its origin; time is up after a while."""

    def __init__(self, sac: Sac) -> None:
        self.sac, config = sac, sac.config
        self.rng = np.random.default_rng(0)
        self.replay = Replay(
            config.replay_size, np.zeros(LANES, int), 2, 2,
            n_step=config.n_step, discount=config.discount,
        )  # fmt: skip
        self.place = self.rng.uniform(-1, 1, (LANES, 2)).astype(np.float32)
        self.age = np.arange(LANES) % HORIZON

    def step(self, state: SacState) -> SacState:
        state, action = self.sac.act(state, self.place)
        following = self.place + 0.3 * np.asarray(action)
        self.age += 1
        truncated = self.age >= HORIZON
        reward = -np.linalg.norm(following, axis=-1)
        zeros = np.zeros(LANES, np.float32)
        self.replay.add(Batch(self.place, action, reward, following, zeros), truncated)
        self.age[truncated] = 0
        fresh = self.rng.uniform(-1, 1, (LANES, 2)).astype(np.float32)
        self.place = np.where(truncated[:, None], fresh, following)
        batches = self.replay.sample((2, self.sac.config.batch_size), self.rng)
        return self.sac.update(state, batches)[0]


def mean_distance(sac: Sac, state: SacState) -> float:
    place = np.random.default_rng(1).uniform(-1, 1, (200, 2)).astype(np.float32)
    total = 0.0
    for _ in range(HORIZON):
        place = place + 0.3 * np.asarray(sac.act_mean(state, place))
        total += float(np.linalg.norm(place, axis=-1).mean()) / HORIZON
    return total


@pytest.mark.parametrize("option", ALONE)
def test_learns_to_go_to_the_origin(option: str) -> None:
    """Standing still costs 0.77, the straight way 0.2."""
    sac = learner(option)
    play, state = Play(sac), sac.init(0)
    for _ in range(300):
        state = play.step(state)
    assert mean_distance(sac, state) < 0.35


@pytest.mark.parametrize("option", ALONE)
def test_resumes_bit_for_bit(option: str) -> None:
    sac = learner(option)
    play, state = Play(sac), sac.init(0)
    for _ in range(4):
        state = play.step(state)
    other = Play(sac)
    resumed = from_tree(sac.init(9), to_tree(state))
    other.replay.restore(play.replay.state())
    other.rng.bit_generator.state = play.rng.bit_generator.state
    other.place, other.age = play.place.copy(), play.age.copy()
    for _ in range(4):
        state, resumed = play.step(state), other.step(resumed)
    jax.tree.map(np.testing.assert_array_equal, state, resumed)
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(resumed)) > 20


def batches(updates: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    lead = updates, BASE["batch_size"]
    return Batch(
        *(rng.uniform(-1, 1, (*lead, 2)).astype(np.float32) for _ in range(2)),
        reward=rng.normal(size=lead).astype(np.float32),
        next_observation=rng.uniform(-1, 1, (*lead, 2)).astype(np.float32),
        terminated=(rng.random(lead) < 0.1).astype(np.float32),
    )


def host(tree: Any) -> Any:
    """A copy that donation cannot take away."""
    return jax.tree.map(np.array, tree)


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


# --- schedule of the learning rates ---


def test_learning_rates_follow_their_factor() -> None:
    """At 0 actor and critics stay; the temperature has a rate of its own."""
    config = SAC(**BASE)

    def factor(env_steps: int) -> float:
        return {0: 1.0, 100: 0.5}.get(env_steps, 0.0)

    sac = Sac(config, 2, 2, lr_factor=factor)
    assert sac.structure == Sac(config, 2, 2).structure
    whole, half = sac.numbers_at(0), sac.numbers_at(100)
    jax.tree.map(np.testing.assert_array_equal, whole, sac.numbers)
    assert (half.actor.lr, half.critic.lr) == (np.float32(1.5e-3), np.float32(1.5e-3))
    assert half.alpha.lr == whole.alpha.lr
    replay = Replay(64, np.zeros(1, int), 2, 2)
    some = Batch(*(leaf[0] for leaf in batches(1)[:5]))
    for i in range(64):
        replay.add(Batch(*(leaf[i : i + 1] for leaf in some[:5])), np.zeros(1, bool))
    host_sac = HostSac(sac, replay, 1, 0)
    rng = np.random.default_rng(0)
    for env_steps, moves in ((100, True), (200, False)):
        before = from_tree(sac.init(0), host(host_sac.state()["learner"]))
        host_sac.update(env_steps, rng)
        after = from_tree(sac.init(0), host_sac.state()["learner"])
        assert same(before.actor, after.actor) is same(before.critic, after.critic) is not moves
        assert not same(before.log_alpha, after.log_alpha)


# --- delayed actor ---


def test_actor_moves_in_the_first_of_every_three_updates() -> None:
    sac = learner("actor_every")
    state = sac.init(0)
    moved, reported = [], []
    for i in range(7):
        before = host(state)
        state, metrics = sac.update(state, batches(1, i))
        after = host(state)
        assert not same(before.critic, after.critic)
        assert not same(before.target_critic, after.target_critic)
        parts = ("actor", "actor_opt", "log_alpha", "alpha_opt")
        changes = {not same(getattr(before, p), getattr(after, p)) for p in parts}
        assert len(changes) == 1
        moved.append(changes.pop())
        reported.append(float(metrics["actor_loss"]))
    assert moved == [True, False, False, True, False, False, True]
    # Between its updates the actor's last numbers stand, and are finite.
    assert reported[0] == reported[1] == reported[2] != reported[3]
    assert np.isfinite(reported).all()


def products(program: Any, conditional: bool = False) -> list[Any]:
    """Matrix products of a jaxpr, those within a conditional or those outside of any."""
    found = []
    for equation in program.eqns:
        within = equation.primitive.name == "cond"
        nested = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "jaxpr")
        )
        for inner in (each.jaxpr for each in nested if hasattr(each, "jaxpr")):
            if conditional and within:
                found += products(inner)
            elif not within:
                found += products(inner, conditional)
        if equation.primitive.name == "dot_general" and not conditional:
            found.append(equation)
    # With a vector only sums are made.
    return [one for one in found if one.outvars[0].aval.ndim > 1]


def test_a_skipped_actor_costs_nothing() -> None:
    """The actor's work stands inside a branch of the program, not beside it."""
    sac = learner("actor_every")
    program = jax.make_jaxpr(sac._update)(sac.init(0), batches(1)).jaxpr
    # Actor and target at s', critic at s; then the critic backward, of whose first layer only the
    # weights have a gradient. Each has two layers.
    assert len(products(program)) == 3 * 2 + 3
    # Actor and critic at s; backward through the critic to the action, and through the actor.
    assert len(products(program, conditional=True)) == 2 * 2 + 2 + 3


def test_the_first_update_is_that_of_an_actor_that_never_waits() -> None:
    waits, never = learner("actor_every"), learner("default")
    first, _ = waits.update(waits.init(3), batches(1))
    second, _ = never.update(never.init(3), batches(1))
    for one, other in zip(
        jax.tree.leaves(first._replace(actor_metrics=None)), jax.tree.leaves(second), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# --- gradients ---


@pytest.mark.parametrize("clip", [None, 100.0, 0.5])
def test_a_clip_scales_gradients_above_it_and_no_others(clip: float | None) -> None:
    tx = optimizer(numbers_of(SAC(**BASE, max_grad_norm=clip, adam_b1=0.8)).actor)
    params = {"a": jnp.ones(3), "b": jnp.ones(())}
    grads = {"a": jnp.array([3.0, 0.0, 0.0]), "b": jnp.float32(4.0)}  # of norm 5
    _, state = tx.update(grads, tx.init(params), params)
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    moments = {k: v for path, v in leaves if ".mu" in (k := jax.tree_util.keystr(path))}
    scale = 0.1 if clip == 0.5 else 1.0
    # After one step Adam's first moment is (1 - b1) of the gradient.
    first, second = (moments[k] for k in sorted(moments))
    np.testing.assert_allclose(first, 0.2 * scale * grads["a"], rtol=1e-5)
    np.testing.assert_allclose(second, 0.2 * scale * grads["b"], rtol=1e-5)


def test_gradient_norms_are_those_of_the_losses() -> None:
    sac, batch = learner("default"), batches(1)
    state = sac.init(0)  # its normalizer has seen nothing, and changes nothing
    one = jax.tree.map(lambda part: part[0], batch)
    _, key, _ = jax.random.split(jax.random.wrap_key_data(state.key), 3)
    noise = jax.random.normal(key, one.action.shape)
    alpha = jnp.exp(state.log_alpha)

    def loss(critic: Any) -> Any:
        rest = state.target_critic, state.actor, alpha, one, 0.9, noise
        return critic_loss(critic, *rest, **sac._nets)[0]

    grads = jax.tree.leaves(jax.jit(jax.grad(loss))(state.critic))
    norm = np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in grads))
    _, metrics = sac.update(state, batch)
    np.testing.assert_allclose(metrics["critic_grad_norm"], norm, rtol=1e-4)


# --- bfloat16 ---


def test_bfloat16_is_in_the_products_and_nowhere_else() -> None:
    sac, exact = learner("bfloat16"), learner("default")
    state = sac.init(0)
    for leaf in jax.tree.leaves(state):
        assert leaf.dtype in (jnp.float32, jnp.int32, jnp.uint32)
    program = jax.make_jaxpr(sac._update)(state, batches(1)).jaxpr
    factors = {v.aval.dtype for product in products(program) for v in product.invars}
    assert factors == {jnp.dtype(jnp.bfloat16)}
    after, _ = sac.update(state, batches(1))
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(after))
    # Rounded to 8 bits, the output is near the exact one, and not equal to it.
    observation = batches(1).observation[0]
    q, near = (
        s._critic.apply(after.critic, observation, observation) for s in (exact, sac)
    )  # fmt: skip
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, q, atol=0.02 * np.abs(q).max() + 1e-3)
    assert not np.array_equal(near, q)


# --- symmetry ---


def test_augmenting_is_learning_from_a_batch_and_its_image() -> None:
    sac, plain = learner("augment"), learner("default")
    small = batches(2)
    image = small._replace(
        observation=mirrored(IMAGE, small.observation),
        action=mirrored(IMAGE, small.action),
        next_observation=mirrored(IMAGE, small.next_observation),
    )
    lead = small.reward.shape[0], 2 * small.reward.shape[1]
    both = jax.tree.map(
        lambda a, b: np.stack([a, b], axis=2).reshape(*lead, *a.shape[2:]), small, image
    )
    first, _ = sac.update(sac.init(0), small)
    second, _ = plain.update(plain.init(0), both)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mirror", "said"),
    [
        (None, "symmetry is augment, but no mirror was given"),
        (Mirror(IMAGE, IMAGE[:1]), "mirror of actions has"),
        (Mirror(((0, 1), (0, -1)), IMAGE), "observations is not its own"),
        (Mirror(((0, 2), (1, 1)), IMAGE), "observations is not its own"),
    ],
)
def test_a_mirror_that_is_none_is_refused(mirror: Mirror | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sac(SAC(**BASE, symmetry="augment"), 2, 2, mirror)
