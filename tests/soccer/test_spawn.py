import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.soccer import game, spawn

SEEDS = range(400)


def draws(task: int) -> spawn.Draws:
    drawn = [spawn.draw(task, np.random.default_rng(seed)) for seed in SEEDS]
    return spawn.Draws(*(np.stack(parts) for parts in zip(*drawn, strict=True)))


@pytest.mark.parametrize("task", range(3))
def test_numpy_equals_jax(task: int) -> None:
    drawn = draws(task)
    placed = spawn.place(task, drawn)
    on_jax = spawn.place(task, spawn.Draws(*map(jnp.asarray, drawn)))
    for name, ours, theirs in zip(spawn.Spawn._fields, placed, on_jax, strict=True):
        # float32 against float64: metres of up to 11.
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("task", range(3))
def test_batched_equals_single(task: int) -> None:
    drawn = draws(task)
    placed = spawn.place(task, drawn)
    for i in (0, 7, 399):
        single = spawn.place(task, spawn.Draws(*(part[i] for part in drawn)))
        for whole, one in zip(placed, single, strict=True):
            np.testing.assert_array_equal(whole[i], one)


def test_kick_to_target_stays_within_the_margins() -> None:
    placed = spawn.place(game.KICK_TO_TARGET, draws(game.KICK_TO_TARGET))
    inner = np.array([game.FIELD_HALF_LENGTH, game.FIELD_HALF_WIDTH]) - spawn.MARGIN
    for xy in (placed.robot_xy, placed.ball_xy, placed.target[:, :2]):
        assert (np.abs(xy) <= inner).all()
        assert (np.abs(xy).max(axis=0) > 0.9 * inner).all()  # and fills the field
    ball = placed.ball_xy - placed.robot_xy
    distance = np.linalg.norm(ball, axis=-1)
    assert distance.min() > 0.5 and distance.max() < 2.0
    # The ball lies ahead, and ahead is towards the centre.
    heading = np.stack([np.cos(placed.robot_yaw), np.sin(placed.robot_yaw)], axis=-1)
    np.testing.assert_allclose(ball, distance[:, None] * heading, atol=1e-9)
    assert (np.sum(heading * placed.robot_xy, axis=-1) < 0).all()
    across = np.abs(placed.target[:, 1] - placed.robot_xy[:, 1])
    assert across.min() >= 2.0 and across.max() <= 3.5
    assert (placed.target[:, 1] > placed.robot_xy[:, 1]).mean() == pytest.approx(0.5, abs=0.1)


def test_obstacles_share_the_lanes() -> None:
    placed = spawn.place(game.OBSTACLE, draws(game.OBSTACLE))
    low, high = spawn.SPHERE_HEIGHT
    assert (low, high) == (0.44, pytest.approx(1.4))  # SPEC section 2
    height = placed.target[:, 2]
    assert low <= height.min() < 0.5 and 1.35 < height.max() <= high
    lanes = np.sort(np.concatenate([placed.defender_y, placed.target[:, 1:2]], axis=1), axis=1)
    np.testing.assert_array_equal(lanes, np.broadcast_to(spawn.LANES, lanes.shape))
    assert len(np.unique(placed.target[:, 1])) == 4


def test_penalties_start_at_the_spot() -> None:
    for task in (game.GOALIE, game.OBSTACLE):
        placed = spawn.place(task, draws(task))
        assert (placed.ball_xy == [-8.77, 0.0]).all()
        np.testing.assert_allclose(placed.robot_xy, np.broadcast_to([-6.77, 0.0], (400, 2)))
        assert (placed.robot_yaw == 3.14).all()


def test_a_seed_is_a_spawn() -> None:
    one, same, other = (
        spawn.draw(game.KICK_TO_TARGET, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.uniform, same.uniform)
    assert (one.uniform != other.uniform).all()


@pytest.mark.parametrize("task", range(3))
def test_what_is_drawn_is_in_the_table(task: int) -> None:
    placed = spawn.place(task, draws(task))
    varies = {name for name, part in placed._asdict().items() if np.ptp(part, axis=0).any()}
    # Defenders and the sphere's height are read in the tasks that have them alone.
    varies -= {"defender_y"} if task != game.OBSTACLE else set()
    varies -= {"target"} if task == game.GOALIE else set()
    assert varies == set(spawn.DRAWN[game.TASKS[task]])


def test_goalie_alone_is_deterministic() -> None:
    assert {"goalie"} == spawn.DETERMINISTIC
    first, *others = (spawn.draw(game.GOALIE, np.random.default_rng(s)) for s in SEEDS)
    assert all((other.lanes == first.lanes).all() for other in others)


@pytest.mark.parametrize("task", range(len(game.TASKS)))
def test_a_share_begins_nearer_to_the_ball(task: int) -> None:
    """As many as were asked for, at any distance between the two, as the robot faces."""
    placed = spawn.place(task, draws(task))
    n = len(placed.robot_yaw)
    uniform = np.random.default_rng(0).random((n, 2))
    near = spawn.nearer(placed, 0.25, uniform)
    on_jax = spawn.nearer(spawn.Spawn(*map(jnp.asarray, placed)), 0.25, jnp.asarray(uniform))
    np.testing.assert_allclose(near.robot_xy, on_jax.robot_xy, atol=1e-5)
    moved = (near.robot_xy != placed.robot_xy).any(axis=-1)
    assert np.array_equal(moved, uniform[:, 0] < 0.25)
    before, after = (
        np.linalg.norm(one.ball_xy - one.robot_xy, axis=-1)[moved] for one in (placed, near)
    )
    assert (after <= before + 1e-9).all() and (after >= spawn.NEAREST - 1e-6).all()
    expected = spawn.NEAREST + uniform[moved, 1] * (before - spawn.NEAREST)
    np.testing.assert_allclose(after, expected, rtol=1e-5)
    for name in ("robot_yaw", "ball_xy", "target", "defender_y"):
        assert getattr(near, name) is getattr(placed, name)
    assert np.array_equal(spawn.nearer(placed, 0.0, uniform).robot_xy, placed.robot_xy)
