"""MJX worlds: the same game as native ones, and all that Brax expects."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from brax.envs.base import State
from envs.device import CHUNK, KICK, WEIGHTS, N, Step, batch, compiled, env, keys, three
from envs.record import GAINS

from booster_ray.envs import mjx, mjx_model
from booster_ray.envs.mjx_randomization import draw_factors
from booster_ray.envs.native import NativeWorld
from booster_ray.soccer import game, spawn
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.judge import judge
from booster_ray.soccer.observation import observe
from booster_ray.soccer.randomization import LEVELS, Factors
from booster_ray.soccer.scoring import raw_terms
from booster_ray.store import checkpoint


def copied(w: NativeWorld, e: mjx.SoccerEnv, states: State) -> State:
    """``states`` with the physics and the spawns of native worlds."""

    def union(array: str, ball: int, robot: int) -> jax.Array:
        # Native goalie worlds keep their keepers between ball and robot.
        rows = [getattr(s, array) for s in w._slots]
        return jnp.asarray([np.r_[row[:ball], row[-robot:]] for row in rows], jnp.float32)

    target = np.where(w.task[:, None] == game.GOALIE, 0.0, w._episode.target)
    world = states.pipeline_state
    panels = jax.vmap(e._blockers)(jnp.asarray(w.task), jnp.asarray(w._defender_y, jnp.float32))
    data = world.data.replace(
        qpos=union("qpos", 7, 19),
        qvel=union("qvel", 6, 18),
        qacc_warmstart=union("qacc_warmstart", 6, 18),
        mocap_pos=panels,
    )
    episode = world.episode._replace(
        task=jnp.asarray(w.task),
        target=jnp.asarray(target, jnp.float32),
        steps=jnp.asarray(w._episode.steps, jnp.int32),
    )
    return states.replace(pipeline_state=world._replace(data=data, episode=episode))


def three_of(states: State) -> State:
    """The first three worlds of ``N``; see :func:`twice`."""
    return jax.tree.map(lambda part: np.asarray(part)[:3], states)


def twice(states: State) -> State:
    """Three worlds as ``N``, for which the programs are compiled."""
    return jax.tree.map(lambda part: np.concatenate([part, part]), states)


def spoiled(states: State, world: int) -> State:
    """``states`` with one joint velocity of one world not a number."""
    old = states.pipeline_state
    data = old.data.replace(qvel=old.data.qvel.at[world, -1].set(jnp.nan))
    return states.replace(pipeline_state=old._replace(data=data))


def fallen_over(states: State, which: Sequence[int]) -> State:
    """``states`` with some robots about to end: the imu passes 0.4 m within a control step."""
    old, rows = states.pipeline_state, jnp.asarray(which)
    # Lying at 0.45 m and falling at 5 m/s.
    down = jnp.asarray([0.45, 0.5**0.5, 0.0, 0.5**0.5, 0.0])
    data = old.data.replace(
        qpos=old.data.qpos.at[rows, 9:14].set(down), qvel=old.data.qvel.at[rows, 8].set(-5.0)
    )
    return states.replace(pipeline_state=old._replace(data=data))


def at(states: State, steps: int) -> State:
    """``states`` after so many physics steps, by their clocks."""
    world = states.pipeline_state
    clock = jnp.full(world.episode.steps.shape, steps, jnp.int32)
    return states.replace(
        pipeline_state=world._replace(episode=world.episode._replace(steps=clock))
    )


# -- the same game -----------------------------------------------------------------------------


def test_spawns() -> None:
    e, reset, *_ = three()
    parts = [reset(keys(N, seed)) for seed in range(8)]
    states = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    world = states.pipeline_state
    task = np.asarray(world.episode.task)
    assert set(task) == {0, 1, 2}
    assert states.obs.shape == (N * 8, 89) and states.obs.dtype == jnp.float32
    np.testing.assert_array_equal(states.obs[:, 86:], np.eye(3)[task])
    assert (states.obs[:, :24] == 0).all() and (states.done == 0).all()
    parked = np.asarray(world.data.mocap_pos)[:, :, 2] < -10
    absent = (task != game.GOALIE, task != game.OBSTACLE)
    for mocaps, away in zip((e.parts.keepers, e.parts.panels), absent, strict=True):
        np.testing.assert_array_equal(parked[:, mocaps].all(axis=1), away)
        np.testing.assert_array_equal(parked[:, mocaps].any(axis=1), away)
    for seed, part in enumerate(parts):
        np.testing.assert_array_equal(part.obs, reset(keys(N, seed)).obs)
    kicks = np.asarray(world.data.qpos)[task == game.KICK_TO_TARGET]
    assert (np.abs(kicks[:, 7:9]) <= [10.47, 6.37]).all() and np.ptp(kicks[:, 7]) > 2
    apart = np.linalg.norm(kicks[:, 7:9] - kicks[:, 0:2], axis=1)
    assert (apart >= 0.5).all() and (apart <= 2.0).all()


def test_an_episode_begins_where_the_official_one_does() -> None:
    """Of each task, by the seeds that the official game takes."""
    e, seeds = three().env, [3, 1003, 7]
    world = NativeWorld(game.TASKS, len(seeds), GAINS)
    theirs = world.reset(0, env_seeds=seeds)
    drawn = [
        spawn.place(t, spawn.draw(t, np.random.default_rng(seed)))
        for t, seed in zip(world.task, seeds, strict=True)
    ]
    placed = spawn.Spawn(*(np.stack(parts) for parts in zip(*drawn, strict=True)))
    states = compiled(jax.vmap(e.reset_at))(jnp.asarray(world.task), placed)
    np.testing.assert_allclose(states.obs, theirs, atol=2e-5)
    episode = states.pipeline_state.episode
    np.testing.assert_array_equal(episode.task, world.task)
    drawn_target = world.task != game.GOALIE
    np.testing.assert_allclose(
        episode.target[drawn_target], world._episode.target[drawn_target], atol=1e-5
    )
    panels = np.asarray(states.pipeline_state.data.mocap_pos)[game.OBSTACLE, e.parts.panels, 1]
    np.testing.assert_allclose(panels, world._worlds.panel_pos[game.OBSTACLE, :, 1], atol=1e-5)


def test_randomized_worlds_begin_nowhere_in_particular() -> None:
    e = env(level=1)
    placed = spawn.place(0, spawn.draw(0, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="needs level 0"):
        e.reset_at(jnp.int32(0), placed)


def test_first_observation_is_the_native_one() -> None:
    e, reset, *_ = three()
    w = NativeWorld(game.TASKS, N, GAINS)
    theirs = w.reset(3)
    world = copied(w, e, reset(keys(N))).pipeline_state

    def first(world: mjx.World, defender_y: jax.Array) -> jax.Array:
        qpos = world.data.qpos
        placed = mjx.spawn.Spawn(
            robot_xy=qpos[7:9],
            robot_yaw=2 * jnp.arctan2(qpos[13], qpos[10]),
            ball_xy=qpos[:2],
            target=world.episode.target,
            defender_y=defender_y,
        )
        data = e._spawned(world.episode.task, placed)
        return observe(e._frame(world, data, jnp.zeros(12), jnp.zeros(())))

    ours = compiled(jax.vmap(first))(world, np.float32(w._defender_y))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


Told = tuple[np.ndarray, np.ndarray, Frame]
"""Observations, rewards and frames of ``N`` worlds."""


def one_of_ten(before: State, action: np.ndarray) -> Told:
    """The first physics step of a control step of ten."""
    e, *_, filmed = three()
    after, film = jax.device_get(filmed(before, action))
    np.testing.assert_allclose(after.obs, observe(at_step(film, -1)), rtol=1e-5, atol=2e-5)
    episode = jax.device_get(before.pipeline_state.episode)
    first = jax.tree.map(lambda part: part[:, :1], film)
    conditions = jax.device_get(e.numbers.conditions)
    judged, frame = judge(episode, first, np.zeros((N, 1), bool), action, WEIGHTS, conditions)
    return observe(frame), judged.reward, at_step(film, 0)


def at_step(film: Frame, k: int) -> Frame:
    return jax.tree.map(lambda part: part[:, k], film)


@cache
def single() -> tuple[mjx.SoccerEnv, Step]:
    e = env(weights=WEIGHTS, decimation=1)
    return e, compiled(jax.vmap(e.step))


def one_of_one(before: State, action: np.ndarray) -> Told:
    """A control step of a single physics step."""
    e, step = single()
    after = step(before, action)
    frame = jax.vmap(lambda s: e._frame(s, s.data, jnp.zeros(12), jnp.zeros(())))
    return np.asarray(after.obs), np.asarray(after.reward), frame(after.pipeline_state)


@pytest.mark.parametrize("stepped", [one_of_ten, pytest.param(one_of_one, marks=pytest.mark.slow)])
def test_one_physics_step_equals_native(stepped: Callable[[State, np.ndarray], Told]) -> None:
    e, reset, *_ = three()
    w = NativeWorld(game.TASKS, N, GAINS, weights=WEIGHTS, decimation=1, auto_reset=False)
    w.reset(3)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (200, N, 12)).astype(np.float32)
    fresh = reset(keys(N))
    for k, action in enumerate(actions):
        before = copied(w, e, fresh) if k in (0, 20, 60, 120, 199) else None
        theirs = w.step(action)
        if before is None:
            continue
        observation, reward, mine = stepped(before, action)
        error = np.abs(observation - theirs.final_observation).max(axis=0)
        # Both follow from contact forces: feet land at step 60, on one ground here, five there.
        velocity, accelerometer = np.r_[12:24], np.r_[30:33]
        assert error[velocity].max() < 3e-2, k
        assert error[accelerometer].max() < 0.2, k
        assert np.delete(error, np.r_[velocity, accelerometer]).max() < 5e-3, k
        np.testing.assert_allclose(reward, theirs.reward, atol=1e-4)
        frame = w.frame()
        for name, value in raw_terms(frame).items():
            np.testing.assert_allclose(raw_terms(mine)[name], value, atol=5e-4, err_msg=name)
        np.testing.assert_array_equal(mine.foot_contact, frame.foot_contact)
    assert np.asarray(frame.foot_contact).any() and (frame.imu_pos[:, 2] > game.FALL_HEIGHT).all()


def test_the_keeper_and_the_ball_in_its_way() -> None:
    e, reset, step, _ = three()
    w = NativeWorld(("goalie", "obstacle", "kick_to_target"), 3, GAINS, auto_reset=False)
    w.reset(5)
    lane = w._defender_y[1, 0]
    for slot, y in zip(w._slots, (0.0, lane, 0.0), strict=True):
        slot.qpos[:3], slot.qvel[:3] = (-10.83, y, 0.0), (-3.0, 0, 0)
    states = twice(copied(w, e, three_of(reset(keys(N)))))
    ours, theirs = step(states, jnp.zeros((N, 12))), w.step(np.zeros((3, 12)))
    assert theirs.terminated.tolist() == [True, True, False]
    np.testing.assert_array_equal(ours.done[:3], theirs.terminated)
    scores = [episode["score"] for episode in theirs.episodes]
    np.testing.assert_allclose(ours.metrics["score"][:2], scores, atol=0.05)


# -- the contract ------------------------------------------------------------------------------


def test_time_is_not_termination() -> None:
    e, reset, step, _ = three()
    assert e.episode_length == 500 and env(KICK, episode_steps=35).episode_length == 4
    states = at(reset(keys(N)), 4985)
    for last in (False, True):
        states = step(states, jnp.zeros((N, 12)))
        assert (states.done == 0).all() and (states.info["truncation"] == last).all()
        assert ((states.metrics["score"] != 0) == last).all()
    assert (states.pipeline_state.episode.steps == 5000).all()
    others = states.reward - states.metrics["score"]
    assert ((others > 1.2) & (others < 1.5)).all()


def test_a_fall_inside_a_control_step_is_noticed() -> None:
    _, reset, step, _ = three()
    ended = step(fallen_over(reset(keys(N)), range(N)), jnp.zeros((N, 12)))
    assert (ended.done == 1).all() and (ended.info["truncation"] == 0).all()
    assert (ended.metrics["fallen"] == 1).all() and (ended.metrics["score"] < 0).all()
    assert (ended.pipeline_state.episode.steps < 10).all()


def test_a_lost_world_ends_and_is_counted() -> None:
    _, reset, step, _ = three()
    states = reset(keys(N))
    kept = step(states, jnp.zeros((N, 12)))
    lost = step(spoiled(states, 2), jnp.zeros((N, 12)))
    others = np.arange(N) != 2
    for part in ("obs", "reward", "done"):
        ours = np.asarray(getattr(lost, part))
        assert np.isfinite(ours).all()
        np.testing.assert_array_equal(ours[others], getattr(kept, part)[others], err_msg=part)
    assert lost.done[2] == 1 and lost.reward[2] == 0 and (lost.obs[2] == 0).all()
    assert lost.metrics["lost"].tolist() == [0, 0, 1, 0, 0, 0]
    assert all(np.isfinite(value).all() for value in lost.metrics.values())
    # A NaN action loses its world in the same way.
    also = step(states, jnp.zeros((N, 12)).at[1].set(jnp.nan))
    assert also.metrics["lost"].tolist() == [0, 1, 0, 0, 0, 0]


# -- many worlds -------------------------------------------------------------------------------

STILL = np.zeros((CHUNK, N, 12))


def test_auto_reset_respawns_with_fresh_draws() -> None:
    _, reset, play = batch()
    states = reset(keys(N))
    old = states.pipeline_state
    states, seen = play(at(states, 4985), STILL)  # time is up in the second step
    new = states.pipeline_state
    assert (new.episode.steps == 10 * (CHUNK - 2)).all()
    np.testing.assert_array_equal(seen.truncated, np.tile([[0], [1], [0], [0]], N))
    assert not seen.terminated.any()
    changed = np.abs(seen.observation - seen.final_observation).max(axis=-1) > 0
    np.testing.assert_array_equal(changed, seen.truncated)
    tasks = np.asarray(seen.episodes["task"])
    np.testing.assert_array_equal(tasks[:2], np.tile(old.episode.task, (2, 1)))
    np.testing.assert_array_equal(tasks[2:], np.tile(new.episode.task, (2, 1)))
    np.testing.assert_array_equal(seen.final_observation[..., 86:], np.eye(3)[tasks])
    np.testing.assert_array_equal(seen.observation[1, :, 86:], np.eye(3)[new.episode.task])
    for name in ("body_mass", "friction", "kp"):
        ours, theirs = getattr(new.factors, name), getattr(old.factors, name)
        assert (ours != theirs).all(), name


def test_records_of_episodes() -> None:
    _, reset, play = batch()
    states = fallen_over(at(reset(keys(N)), 1000), range(1, 4))
    # World 0 runs out of time in the third step, 1 to 3 fall in the first, 4 and 5 play on.
    world = states.pipeline_state
    clock = world.episode.steps.at[0].set(4975)
    episode = world.episode._replace(steps=clock, returns=world.episode.returns + 2)
    states = states.replace(pipeline_state=world._replace(episode=episode))
    _, seen = play(spoiled(states, 3), STILL)
    expected = np.zeros((CHUNK, N), bool)
    expected[2, 0] = expected[0, 1:4] = True
    np.testing.assert_array_equal(seen.recorded, expected)
    np.testing.assert_array_equal(seen.terminated | seen.truncated, expected)
    assert seen.truncated.sum() == 1
    record = {name: np.asarray(v) for name, v in seen.episodes.items() if name != "task"}
    for name, values in record.items():
        assert (values[~np.asarray(seen.recorded)] == 0).all(), name
    reward = np.asarray(seen.reward)
    np.testing.assert_allclose(record["return"][2, 0], 2 + reward[:3, 0].sum(), rtol=1e-6)
    np.testing.assert_allclose(record["return"][0, 1:3], 2 + reward[0, 1:3], rtol=1e-6)
    assert record["seconds"][2, 0] == pytest.approx(10)
    assert ((record["seconds"][0, 1:3] > 2) & (record["seconds"][0, 1:3] < 2.02)).all()
    # World 3 is lost: the worst outcome, and told apart.
    assert record["fallen"].sum() == 3 and record["success"].sum() == 0
    assert record["lost"].sum() == record["lost"][0, 3] == 1
    worst = -1.3 if int(seen.episodes["task"][0, 3]) == game.KICK_TO_TARGET else -6.0
    assert record["score"][0, 3] == pytest.approx(worst)
    assert record["seconds"][0, 3] == pytest.approx(2.002)
    assert not np.asarray(seen.dropped).any()
    assert (record["score"][0, 1:3] < 0).all()
    # The sums know nothing of the 2 that the returns were given above.
    sums = sum(value for name, value in record.items() if name.startswith("reward."))
    assert {name for name in record if name.startswith("reward.")} == {
        f"reward.{t}" for t in WEIGHTS
    }
    np.testing.assert_allclose(sums[2, 0], reward[:3, 0].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums[0, 1:3], reward[0, 1:3], rtol=1e-5)


def test_a_batch_of_an_earlier_release_has_no_sums_yet() -> None:
    _, reset, play = batch()
    states, _ = play(reset(keys(N)), STILL)
    tree = mjx.state_tree(states)
    sums = tree["pipeline_state"].pop("term_sums")
    # The official score is paid at an episode's end, and none has ended.
    assert {name for name, value in sums.items() if np.any(value)} == set(WEIGHTS) - {"official"}
    for name in [name for name in tree["metrics"] if name.startswith("reward.")]:
        del tree["metrics"][name]
    resumed = mjx.restored(reset(keys(N, seed=1)), tree)
    sums = resumed.pipeline_state.episode.term_sums
    assert set(sums) == set(WEIGHTS) and not any(value.any() for value in sums.values())
    play(resumed, STILL)


def test_a_restored_batch_goes_on_bit_for_bit(tmp_path: Path) -> None:
    _, reset, play = batch()
    actions = np.random.default_rng(0).uniform(-1, 1, (6, CHUNK, N, 12))
    states = at(reset(keys(N)), 4800)  # time is up in the 20th step
    for part in actions[:3]:
        states, _ = play(states, part)
    tree = mjx.state_tree(states)
    stored = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    assert stored < 0.05 * sum(leaf.nbytes for leaf in jax.tree.leaves(states))
    checkpoint.save(tmp_path / "c", tree)
    resumed = mjx.restored(reset(keys(N, seed=1)), checkpoint.load(tmp_path / "c")[0])
    ended = 0
    for part in actions[3:]:
        states, expected = play(states, part)
        resumed, seen = play(resumed, part)
        jax.tree.map(np.testing.assert_array_equal, seen, expected)
        ended += int(seen.recorded.sum())
    assert ended >= 2


def test_a_foreign_state_is_refused() -> None:
    states = batch().reset(keys(N))
    fewer = jax.tree.map(lambda leaf: leaf[:3], mjx.state_tree(states))
    with pytest.raises(ValueError, match=r"world state: .*has shape \(3,"):
        mjx.restored(states, fewer)
    for tree in (mjx.state_tree(three()[1](keys(N))), {"obs": states.obs}):
        with pytest.raises(ValueError, match="its parts are not those"):
            mjx.restored(states, tree)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("golf",)}, "golf"),
        ({"tasks": ()}, "unknown task"),
        ({"impl": "torch"}, r"unknown MJX impl 'torch'; expected one of \['jax', 'warp'\]"),
        ({"mode": "velocity"}, "velocity"),
        ({"level": 4}, "expected 0-3"),
        ({"decimation": 0}, "decimation is 0"),
        ({"episode_steps": 5001}, "1 to 5000"),
        ({"weights": {"speed": 1.0}}, r"unknown reward term \['speed'\]"),
        ({"features": ("smell",)}, r"unknown feature \['smell'\]"),
        ({"platform": "gpu"}, "CUDA"),
        ({"platform": "gpu", "impl": "warp"}, "impl 'warp' on a gpu needs a CUDA device"),
        ({"platform": "abacus"}, "abacus"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        env(**changes)


@pytest.mark.parametrize("action", [np.zeros(11), np.zeros((N, 12)), np.zeros(12, np.int32)])
def test_bad_actions(action: np.ndarray) -> None:
    e = three().env
    state = jax.eval_shape(e.reset, jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match=r"expected floats of shape \(12,\)"):
        e.step(state, jnp.asarray(action))


@pytest.mark.parametrize(
    "action", [np.zeros((N, 11)), np.zeros((N + 1, 12)), np.zeros(12), np.zeros((N, 12), np.int32)]
)
def test_bad_actions_of_a_batch(action: np.ndarray) -> None:
    worlds, reset, _ = batch()
    with pytest.raises(ValueError, match=r"expected floats of shape \(6, 12\)"):
        worlds.step(reset(keys(N)), jnp.asarray(action))


# -- the model ---------------------------------------------------------------------------------


def test_stacked_contacts_are_as_stiff_as_one() -> None:
    ref, imp = np.array([0.02, 1.0]), np.array([0.9, 0.95, 0.001, 0.5, 2.0])
    ours_ref, ours_imp = mjx_model.stacked(ref, imp, 3.0)
    softness = (1 - imp[:2]) / imp[:2]
    np.testing.assert_allclose((1 - ours_imp[:2]) / ours_imp[:2], softness / 3)
    assert ours_ref[0] * ours_imp[1] == pytest.approx(ref[0] * imp[1])
    same = mjx_model.stacked(ref, imp, 1.0)
    np.testing.assert_allclose(np.concatenate(same), np.concatenate([ref, imp]))


def test_warp_keeps_the_official_geoms() -> None:
    ours = mjx_model.mjx_parts("warp").model
    theirs = mjx_model.soccer_model("kick_to_target").model
    count = theirs.ngeom
    assert ours.ngeom == count + 5 and ours.opt.iterations == 100 and ours.npair == 0
    for field in ("type", "size", "pos", "quat", "contype", "conaffinity", "friction", "solimp"):
        name = f"geom_{field}"
        np.testing.assert_array_equal(getattr(ours, name)[:count], getattr(theirs, name), name)


@pytest.mark.parametrize("name", [*mjx_model.KEEPERS, *mjx_model.PANELS])
def test_blockers_stand_where_the_official_ones_do(name: str) -> None:
    number = int(name[-1])
    keeper = name in mjx_model.KEEPERS
    w = NativeWorld(("goalie" if keeper else "obstacle",), 1, GAINS)
    w.reset(0)
    slot = w._slots[0]
    theirs = f"goalkeeper_team_{number}_geom" if keeper else f"defender_geom{number}"
    official = hull(slot.model, w._shared_of[0].data, theirs)
    for impl in mjx_model.IMPLS:
        parts = mjx_model.mjx_parts(impl)
        if name not in {parts.model.geom(i).name for i in range(parts.model.ngeom)}:
            assert name == "keeper1" and impl == "jax"
            continue
        data = mujoco.MjData(parts.model)
        homes = parts.keeper_home if keeper else parts.panel_home
        place = homes[number] + (0.0, 0.0 if keeper else w._defender_y[0, number], 0.0)
        data.mocap_pos[(parts.keepers if keeper else parts.panels)[number]] = place
        mujoco.mj_kinematics(parts.model, data)
        ours = hull(parts.model, data, name)
        np.testing.assert_allclose(ours.min(axis=0), official.min(axis=0), atol=1e-2)
        np.testing.assert_allclose(ours.max(axis=0), official.max(axis=0), atol=1e-2)
        if impl == "warp":
            np.testing.assert_allclose(ours, official, atol=1e-5)


def hull(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> np.ndarray:
    """Vertices (n, 3) of a mesh or box geom in the world, m."""
    geom = model.geom(name)
    if geom.type[0] == mujoco.mjtGeom.mjGEOM_BOX:
        signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        points = signs * geom.size
    else:
        mesh = model.mesh(int(geom.dataid[0]))
        points = model.mesh_vert[mesh.vertadr[0] : mesh.vertadr[0] + mesh.vertnum[0]]
    rotation = data.geom(name).xmat.reshape(3, 3)
    return np.asarray(points @ rotation.T + data.geom(name).xpos)


# -- randomization -----------------------------------------------------------------------------


def test_factors_reach_the_contacts() -> None:
    e: mjx.SoccerEnv = batch().worlds.env

    @compiled
    def made(factors: Factors) -> tuple[jax.Array, jax.Array]:
        model = mjx.randomize(e.sys, e.parts, factors)
        return model.pair_friction, model.body_mass

    ones = jax.tree.map(jnp.ones_like, draw_factors(LEVELS[0], 13, jax.random.PRNGKey(0)))
    pairs = [set(e.parts.model.pair(i).name.split(":")) for i in range(e.parts.model.npair)]
    some = ones._replace(
        friction=jnp.float32(0.5), foot_friction=jnp.float32(1.5), ball_friction=jnp.float32(0.8)
    )
    friction = np.asarray(made(some)[0])[:, 0]
    for pair, value in zip(pairs, friction, strict=True):
        foot, ball = any("foot" in geom for geom in pair), "ball" in pair
        expected = 0.5 * (1.5 if foot else 0.8 if ball else 1.0)
        assert value == pytest.approx(expected), pair
    _, heavy = made(ones._replace(ball_mass=jnp.float32(1.2)))
    mass = np.asarray(heavy / jnp.maximum(e.sys.body_mass, 1e-9))
    assert mass[e.parts.ball_body] == pytest.approx(1.2)
    np.testing.assert_allclose(mass[e.parts.robot_bodies], 1, rtol=1e-6)
