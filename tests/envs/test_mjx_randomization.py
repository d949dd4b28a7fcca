"""What randomization does to an MJX world (impl jax): each quantity alone, and none at all.

The level has everything on. A world's own factors, and for pushes its key, say what acts in it, so
that one compiled program shows every quantity beside a world without any.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import State
from envs.device import CHUNK, N, batch, compiled, keys, three

from booster_ray.envs import mjx
from booster_ray.envs.mjx_randomization import draw_factors
from booster_ray.soccer import game, observation
from booster_ray.soccer.randomization import DRAWS, LEVELS, Factors, Level

ONE_AT_A_TIME = {
    "body_mass": Level({"body_mass": 0.2}),
    "friction": Level({"friction": 0.5}),
    "damping": Level({"damping": 0.2}),
    "ball_mass": Level({"ball_mass": 0.2}),
    "ball_friction": Level({"ball_friction": 0.3}),
    "foot_friction": Level({"foot_friction": 0.5}),
    "kp": Level({"kp": 0.1, "kd": 0.1}),
    "kd": Level({"kp": 0.1, "kd": 0.1}),
    "action_delay": Level({"action_delay": 1}),
}
"""By the factor that a world gets of it; pushes and noise are no factors."""

QUANTITIES = ("push", *ONE_AT_A_TIME)
BATCHES = tuple(("off", *QUANTITIES[i : i + N - 1]) for i in (0, N - 1))
"""What is on in each world."""

CHUNKS = 6
"""0.48 s: the robot lands after 0.12 s, and the ball meets its feet."""

BODIES = 13
NOISE, PUSH_SPEED, PUSH_INTERVAL = (
    LEVELS[3].observation_noise, LEVELS[3].push_speed, LEVELS[3].push_interval,
)  # fmt: skip


class Play(NamedTuple):
    """One batch, and what became of it."""

    start: State
    ends: list[np.ndarray]
    """(N, 50) each: qpos and qvel after each chunk."""
    seen: mjx.Outcome
    """Of all control steps, (CHUNKS * CHUNK, N, ...)."""


def unit() -> Factors:
    """The factors of a world that is not randomized."""
    ones = draw_factors(Level(), BODIES, jax.random.PRNGKey(0))
    assert all((f == (name != "action_delay")).all() for name, f in ones._asdict().items())
    return ones


@cache
def only(name: str) -> Factors:
    """Factors of a world in which one quantity is on, by the first draw that is well off 1."""
    draw = jax.vmap(lambda key: draw_factors(ONE_AT_A_TIME[name], BODIES, key))
    own = np.asarray(getattr(draw(keys(50, seed=1)), name))
    off = np.abs(own - (name != "action_delay")).reshape(50, -1).max(axis=1)
    return unit()._replace(**{name: jnp.asarray(own[np.argmax(off > 0.04)])})


@jax.jit
@jax.vmap
def pushed(key: jax.Array) -> jax.Array:
    """In which control steps a world with this key is pushed: bool (CHUNKS * CHUNK,)."""
    chance = 10 * game.TIMESTEP / PUSH_INTERVAL

    def control(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        key, for_push, _ = jax.random.split(key, 3)
        return key, jax.random.uniform(for_push, (3,))[0] < chance

    return jax.lax.scan(control, key, None, length=CHUNKS * CHUNK)[1]


@cache
def push_keys() -> tuple[jax.Array, jax.Array]:
    """Keys of a world that is never pushed, and of one that is pushed in its second chunk."""
    some = keys(500, seed=2)
    when = np.asarray(pushed(some))
    calm = np.argmin(when.any(axis=1))
    hit = np.argmax(when[:, CHUNK : 2 * CHUNK].any(axis=1) & ~when[:, :CHUNK].any(axis=1))
    return some[calm], some[hit]


def kick_off() -> State:
    """Worlds alike, of kick_to_target, where the ball rolls at 6 m/s against the feet."""
    states = batch().reset(keys(N))
    first = np.argmax(np.asarray(states.pipeline_state.episode.task) == game.KICK_TO_TARGET)
    states = jax.tree.map(lambda part: np.repeat(np.asarray(part)[first][None], N, axis=0), states)
    world = states.pipeline_state
    assert (world.episode.task == game.KICK_TO_TARGET).all()
    way = world.data.qpos[:, 7:9] - world.data.qpos[:, :2]
    rolling = 6 * way / np.linalg.norm(way, axis=1, keepdims=True)
    data = world.data.replace(qvel=np.concatenate([rolling, world.data.qvel[:, 2:]], axis=1))
    return states.replace(pipeline_state=world._replace(data=data))


def at_rest(states: State) -> State:
    """The same, but that the ball does not roll."""
    world = states.pipeline_state
    data = world.data.replace(qvel=world.data.qvel * (np.arange(world.data.qvel.shape[1]) >= 6))
    return states.replace(pipeline_state=world._replace(data=data))


def actions() -> np.ndarray:
    """(CHUNKS * CHUNK, 12)."""
    return 0.3 * np.random.default_rng(0).uniform(-1, 1, (CHUNKS * CHUNK, 12))


def played(start: State, action: np.ndarray) -> Play:
    ends, seen, states = [], [], start
    for part in action.reshape(CHUNKS, CHUNK, 1, 12):
        states, outcome = batch().play(states, np.repeat(part, N, axis=1))
        ends.append(physics(states))
        seen.append(outcome)
    together = jax.tree.map(lambda *parts: np.concatenate(parts), *seen)
    assert not (together.terminated | together.truncated).any()
    return Play(start, ends, together)


@cache
def play(names: tuple[str, ...]) -> Play:
    start = kick_off()
    calm, hit = push_keys()
    start.info["rng"] = jnp.stack([hit if name == "push" else calm for name in names])
    own = [only(name) if name in ONE_AT_A_TIME else unit() for name in names]
    factors = jax.tree.map(lambda *parts: jnp.stack(parts), *own)
    world = start.pipeline_state._replace(factors=factors)
    return played(start.replace(pipeline_state=world), actions())


def physics(states: State) -> np.ndarray:
    data = states.pipeline_state.data
    return np.concatenate([data.qpos, data.qvel], axis=-1)


def beside_off(quantity: str) -> list[np.ndarray]:
    """|difference| (50,) of qpos and qvel from the world without any, after each chunk."""
    names = next(names for names in BATCHES if quantity in names)
    return [np.abs(end[names.index(quantity)] - end[0]) for end in play(names).ends]


# -- each quantity alone -----------------------------------------------------------------------


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_each_quantity_changes_the_trajectory(quantity: str) -> None:
    ball, robot = [*range(7), *range(26, 32)], [*range(7, 26), *range(32, 50)]
    moved = beside_off(quantity)[-1]
    assert moved[ball if quantity.startswith("ball") else robot].max() > 1e-3


def test_with_none_on_it_is_level_zero() -> None:
    step = three().step
    for names in BATCHES:
        np.testing.assert_array_equal(play(names).ends[-1][0], play(BATCHES[0]).ends[-1][0])
    randomized = played(at_rest(play(BATCHES[0]).start), actions())
    world = randomized.start.pipeline_state._replace(factors=None)
    info = {name: randomized.start.info[name] for name in ("rng", "truncation")}
    states = randomized.start.replace(pipeline_state=world, info=info)
    # Another program rounds otherwise, and contacts multiply that, those of a rolling ball most:
    # so it rests here, and the last chunk is left out.
    for k, action in enumerate(actions()[:-CHUNK], 1):
        states = step(states, np.tile(np.float32(action), (N, 1)))
        np.testing.assert_allclose(states.reward[0], randomized.seen.reward[k - 1, 0], atol=1e-3)
        if k % CHUNK == 0:
            error = np.abs(physics(states)[0] - randomized.ends[k // CHUNK - 1][0])
            assert error[:26].max() < 1e-4 and error[26:].max() < 1e-2, k


def test_factors_of_one_leave_the_model() -> None:
    e: mjx.SoccerEnv = batch().worlds.env
    leaves = compiled(lambda f: jax.tree.leaves(mjx.randomize(e.sys, e.parts, f)))
    ours = jax.tree_util.tree_leaves_with_path(e.sys)
    for (path, base), same in zip(ours, leaves(unit()), strict=True):
        np.testing.assert_allclose(same, base, rtol=1e-6, err_msg=jax.tree_util.keystr(path))


def test_a_push_acts_from_its_own_step_on() -> None:
    before, after, *_ = beside_off("push")
    assert (before == 0).all() and after.max() > 1e-3
    for quantity in ONE_AT_A_TIME:
        assert beside_off(quantity)[0].max() > 0, quantity


def test_a_delayed_action_is_the_one_before() -> None:
    late = played(play(BATCHES[0]).start, np.concatenate([np.zeros((1, 12)), actions()[:-1]]))
    world = BATCHES[1].index("action_delay")
    for shifted, delayed in zip(late.ends, play(BATCHES[1]).ends, strict=True):
        np.testing.assert_array_equal(shifted[0], delayed[world])


def test_noise_blurs_what_is_measured_only() -> None:
    clean, noisy = (
        np.concatenate([reset(keys(N, seed)).obs for seed in range(10)])
        for reset in (three()[1], batch().reset)
    )
    errors = noisy - clean
    scales = NOISE * np.array(observation.noise())
    assert (errors[:, scales == 0] == 0).all() and (scales == 0).sum() == 5
    normal = errors[:, scales > 0] / scales[scales > 0]
    bound = 5 / np.sqrt(2 * len(errors))  # five standard errors of a deviation
    np.testing.assert_allclose(normal.std(axis=0), 1, rtol=bound)
    assert normal.std() == pytest.approx(1, rel=0.02)
    assert normal.mean() == pytest.approx(0, abs=0.05)
    assert len(np.unique(errors[:, 0])) == len(errors)


def test_noise_is_drawn_in_every_step() -> None:
    # The step lags nothing in the joints: what is not qpos is noise. None of it reaches physics.
    run = play(BATCHES[0])
    joints = np.stack([end[:, 14:26] for end in run.ends])
    noise = run.seen.observation[CHUNK - 1 :: CHUNK, :, :12] - joints
    assert noise[:, 0].std() == pytest.approx(NOISE, rel=0.2)
    assert len(np.unique(noise[:, 0])) == noise[:, 0].size
    calm = [i for i, name in enumerate(BATCHES[0]) if name != "push"]
    np.testing.assert_allclose(noise[:, calm], np.repeat(noise[:, :1], len(calm), 1), atol=1e-6)


def test_pushes() -> None:
    e: mjx.SoccerEnv = batch().worlds.env
    worlds = play(BATCHES[0]).start.pipeline_state.data
    data = jax.tree.map(lambda part: jnp.asarray(part[0]), worlds)
    push = jax.jit(jax.vmap(lambda key: e._push(data, key).qvel - data.qvel))
    change = np.asarray(push(keys(40_000)))
    assert (np.delete(change, [6, 7], axis=1) == 0).all()
    speed = np.linalg.norm(change[:, 6:8], axis=1)
    hit = speed > 0
    # One in 5 s on average: one control step in 250.
    assert hit.sum() == pytest.approx(160, abs=5 * np.sqrt(160))
    assert 0.4 < speed.max() <= PUSH_SPEED + 1e-6
    assert speed[hit].mean() == pytest.approx(PUSH_SPEED / 2, abs=0.06)
    angle = np.arctan2(change[hit, 7], change[hit, 6])
    assert (np.histogram(angle, 4, (-np.pi, np.pi))[0] > 15).all()


# -- the table ---------------------------------------------------------------------------------


def test_quantities_cover_the_level() -> None:
    assert set(ONE_AT_A_TIME) == set(Factors._fields) == set(DRAWS)


@pytest.mark.parametrize("level", range(4))
def test_draws_fill_the_range_of_the_table(level: int) -> None:
    factors = jax.vmap(lambda key: draw_factors(LEVELS[level], BODIES, key))(keys(2000))
    widths = LEVELS[level].widths
    for name in set(DRAWS) - {"action_delay"}:
        width = widths.get(name, 0.0)
        off = np.asarray(getattr(factors, name), np.float64) - 1
        assert off.shape == (2000, *{"body_mass": (BODIES,), "damping": (12,)}.get(name, ()))
        assert np.abs(off).max() <= width + 1e-6, name
        if width:
            assert off.min() < -0.98 * width and off.max() > 0.98 * width, name
            assert off.mean() == pytest.approx(0, abs=0.05 * width), name
            assert off.std() == pytest.approx(width / np.sqrt(3), rel=0.05), name
    delay = np.asarray(factors.action_delay)
    assert set(delay.tolist()) == set(range(int(widths.get("action_delay", 0)) + 1))
    if "action_delay" in widths:
        assert delay.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_only_what_is_on_is_drawn(name: str) -> None:
    level = ONE_AT_A_TIME[name]
    factors = jax.vmap(lambda key: draw_factors(level, BODIES, key))(keys(20))
    together = {"kp", "kd"} if name in ("kp", "kd") else {name}
    for other, values in factors._asdict().items():
        changed = (np.asarray(values) != (other != "action_delay")).any()
        assert changed == (other in together), other


def test_quantities_are_drawn_apart() -> None:
    factors = jax.vmap(lambda key: draw_factors(LEVELS[3], BODIES, key))(keys(2000))
    columns = [np.asarray(part, float).reshape(2000, -1) for part in factors]
    correlation = np.corrcoef(np.concatenate(columns, axis=1), rowvar=False)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.12


# -- how they travel ---------------------------------------------------------------------------


def test_a_reset_draws_them_from_its_key() -> None:
    one, two = (batch().reset(keys(N)).pipeline_state.factors for _ in range(2))
    for name, ours, theirs in zip(Factors._fields, one, two, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert len(np.unique(np.asarray(ours), axis=0)) == (2 if name == "action_delay" else N)
    assert three()[1](keys(N)).pipeline_state.factors is None
