"""Where the striker goes and how it kicks; with the walking policy at hand, that it scores."""

from pathlib import Path

import numpy as np
import pytest
from envs.record import GAINS, WALKER

from booster_ray.envs.native import NativeWorld
from booster_ray.policy.experts.striker import (
    DEFAULT_POSE,
    FREQUENCY,
    LAWS,
    SIDESTEP,
    Law,
    Striker,
    command,
    swing,
)
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_action, pd_target
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import Clock

SEEDS = 12


def frames(n: int, task: int = game.KICK_TO_TARGET) -> Frame:
    """Robots at the origin that look along x, a ball 1 m ahead, its target beyond."""
    world = NativeWorld((game.TASKS[task],), n, GAINS)
    world.reset(0)
    frame = world.frame()
    world.close()
    ahead = np.tile([1.0, 0.0, 0.0], (n, 1))
    return frame._replace(
        imu_pos=0.6 * np.tile([0.0, 0.0, 1.0], (n, 1)),
        imu_quat=np.tile([1.0, 0.0, 0.0, 0.0], (n, 1)),
        ball_pos=ahead,
        target_pos=3 * ahead,
        defender_pos=np.zeros((n, 3, 3)),
    )


def law(n: int, **numbers: float) -> Law:
    plain = LAWS[game.KICK_TO_TARGET]._replace(side=0.0, bias=0.0, hurry=0.0)._replace(**numbers)
    return Law(*(np.full(n, value) for value in plain))


def test_straight_on_behind_the_ball() -> None:
    speed, sideways, turn = command(law(1, speed=0.9), frames(1))[0]
    assert (speed, sideways, turn) == pytest.approx((0.9, 0.0, 0.0))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_turns_and_steps_to_the_line(sign: float) -> None:
    frame = frames(1)
    off = frame._replace(imu_pos=np.array([[0.0, 0.3 * sign, 0.6]]))
    _, sideways, turn = command(law(1, curve=0.0), off)[0]
    assert sideways * sign < 0 and turn * sign < 0
    assert abs(sideways) <= SIDESTEP


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_walks_around_a_ball_that_is_on_the_wrong_side(sign: float) -> None:
    # The target lies behind the robot: it passes the ball on the side where it already is.
    frame = frames(1)
    wrong = frame._replace(
        target_pos=-3 * frame.ball_pos, imu_pos=np.array([[0.0, 0.1 * sign, 0.6]])
    )
    straight = command(law(1, around=np.pi), wrong)[0]
    speed, sideways, _ = command(law(1, speed_around=0.5, hold=0.0), wrong)[0]
    assert sideways * sign > 0
    assert np.hypot(speed, sideways) == pytest.approx(0.5)
    assert abs(straight[1]) != pytest.approx(abs(sideways))


def test_it_faces_the_ball_or_the_aim_on_the_way_around() -> None:
    frame = frames(1)
    beside = frame._replace(target_pos=np.array([[1.0, 3.0, 0.0]]))
    ball, aim = (command(law(1, hold=hold), beside)[0, 2] for hold in (0.0, 1.0))
    assert ball == pytest.approx(0.0, abs=1e-6)  # it looks at the ball already
    assert aim > 0.5


def test_the_near_leg_swings_at_a_near_ball() -> None:
    frame = frames(4)
    near = np.array([[0.3, 0.1, 0.0], [0.3, -0.1, 0.0], [0.9, 0.1, 0.0], [0.3, 0.6, 0.0]])
    kick = law(4, reach=0.5, phase=0.25, hip=0.7, knee=0.5, ankle=0.1)
    hardest = np.where(near[:, 1] > 0, 0.25, 0.75)
    offsets = swing(kick, frame._replace(ball_pos=near), hardest)
    assert offsets[0, :6] == pytest.approx([-0.7, 0, 0, -0.5, 0.1, 0])
    assert offsets[1, 6:] == pytest.approx([-0.7, 0, 0, -0.5, 0.1, 0])
    assert not offsets[0, 6:].any() and not offsets[1, :6].any()
    assert not offsets[2:].any()


def test_targets_are_an_action_away_from_the_pose(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = (47, 256, 128, 128, 12)
    arrays = {f"layer{i}.weight": rng.standard_normal(sizes[i : i + 2][::-1]) for i in range(4)}
    arrays |= {f"layer{i}.bias": rng.standard_normal(sizes[i + 1]) for i in range(4)}
    np.savez(tmp_path / "walk.npz", **arrays)
    world = NativeWorld(game.TASKS, 6, GAINS, gait_frequency=FREQUENCY)
    world.reset(0)
    targets = Striker(weights=tmp_path / "walk.npz").targets(world.frame(), world.kept())
    world.close()
    assert targets.shape == (6, 12)
    assert np.abs(targets - DEFAULT_POSE).max() == 1.0  # such a network is at its limits


def scores(task: str, noise: float) -> np.ndarray:
    """Official scores of seeds 0 to 11, with noise on the actions."""
    world = NativeWorld((task,), SEEDS, GAINS, auto_reset=False, gait_frequency=FREQUENCY)
    world.reset(0, env_seeds=range(SEEDS))
    striker, rng = Striker(weights=WALKER), np.random.default_rng(0)
    found = np.full(SEEDS, np.nan)
    while np.isnan(found).any():
        kept: Clock = world.kept()
        kept = kept._replace(previous_action=pd_target(kept.previous_action, GAINS))
        action = pd_action(striker.targets(world.frame(), kept), GAINS)
        action += noise * rng.standard_normal(action.shape)
        for episode in world.step(np.clip(action, -1, 1)).episodes:
            found[int(episode["env"])] = episode["score"]
    world.close()
    return found


@pytest.mark.slow
@pytest.mark.skipif(not WALKER.exists(), reason="the walking policy is not at hand")
def test_it_plays_better_than_the_walk() -> None:
    # A walk straight at the ball, the best of 16 speeds and gaits: 6.46, 1.97, -0.30.
    means = {task: scores(task, noise=0.0).mean() for task in game.TASKS}
    assert means["goalie"] > 9 and means["obstacle"] > 4 and means["kick_to_target"] > 0
