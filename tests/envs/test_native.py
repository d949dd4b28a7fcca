"""The contract of a world, and what randomization does to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from booster_ray.config import Config
from booster_ray.envs import stepping
from booster_ray.envs.contract import StepResult
from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate.scores import gains
from booster_ray.soccer import game, observation, randomization, scoring
from booster_ray.soccer.control import pd_target, pd_torque
from booster_ray.soccer.randomization import DRAWS, LEVELS, Level
from booster_ray.store import checkpoint

GAINS = gains(Config())
KICK = ("kick_to_target",)


def world(tasks: Sequence[str] = game.TASKS, num_envs: int = 3, **options: Any) -> NativeWorld:
    return NativeWorld(tasks, num_envs, GAINS, **options)


def actions(steps: int, num_envs: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 12))


def assert_same(left: StepResult, right: StepResult) -> None:
    for name, ours, theirs in zip(StepResult._fields, left, right, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def states(w: NativeWorld) -> np.ndarray:
    return w.state()["physics"]


# -- the contract ------------------------------------------------------------------------------


def test_tasks_are_dealt_in_turn() -> None:
    w = world(num_envs=5)
    assert w.task.tolist() == [0, 1, 2, 0, 1] and w.task.dtype == np.int32
    seen = w.reset(0)
    assert seen.shape == (5, 89) and seen.dtype == np.float32
    np.testing.assert_array_equal(seen[:, 86:], np.eye(3)[w.task])
    assert world(["obstacle"], 2).task.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["goalie", "golf"]}, "golf"),
        ({"tasks": []}, "unknown task"),
        ({"num_envs": 2}, "num_envs is 2"),
        ({"level": 4}, "level 4"),
        ({"level": -1}, "level -1"),
        ({"mode": "velocity"}, "velocity"),
        ({"decimation": 0}, "decimation is 0"),
        ({"episode_steps": 5001}, "episode_steps 5001"),
        ({"threads": 0}, "threads is 0"),
        ({"gait_frequency": -1.0}, "gait_frequency -1"),
        ({"weights": {"bravery": 1.0}}, "bravery"),
        ({"features": ["hat"]}, "hat"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world(**changes)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((2, 12)), r"\(2, 12\)"),
        (np.zeros(12), r"expected \(1, 12\)"),
        (np.full((1, 12), np.nan), "not finite"),
        (np.full((1, 12), np.inf), "not finite"),
        (np.zeros((1, 12), complex), "dtype complex128"),
        (np.zeros((1, 12), bool), "dtype bool"),
        (np.zeros((1, 12), object), "dtype object"),
    ],
)
def test_bad_actions(action: np.ndarray, message: str) -> None:
    w = world(KICK, 1)
    w.reset(0)
    before = states(w)
    with pytest.raises(ValueError, match=message):
        w.step(action)
    np.testing.assert_array_equal(states(w), before)


def test_actions_are_clipped() -> None:
    ends = [world(KICK, 1), world(KICK, 1)]
    for w, size in zip(ends, (1.0, 50.0), strict=True):
        w.reset(0)
        w.step(np.full((1, 12), size))
    np.testing.assert_array_equal(states(ends[0]), states(ends[1]))


def test_ended_episodes_start_anew() -> None:
    w = world(weights={"alive": 1.0})
    seen = w.reset(0)
    ended = np.zeros(3, int)
    returns = np.zeros(3)
    for action in actions(80):
        result = w.step(action)
        over = result.terminated | result.truncated
        returns += result.reward
        np.testing.assert_array_equal(result.observation[~over], result.final_observation[~over])
        # A first observation has straight legs at rest; a last one does not.
        assert (result.observation[over, :24] == 0).all()
        assert (np.abs(result.final_observation[over, :24]).max(axis=-1, initial=1) > 0).all()
        assert [e["env"] for e in result.episodes] == np.flatnonzero(over).tolist()
        for episode in result.episodes:
            i = int(episode["env"])
            assert episode["task"] == w.task[i] and episode["fallen"] and not episode["success"]
            assert episode["return"] == pytest.approx(returns[i])
            assert 0.1 < episode["seconds"] < 2
            returns[i] = 0
        ended += over
        assert not result.truncated.any()
    assert (ended >= 1).all() and ended.sum() > 3
    assert seen.shape == result.observation.shape


def test_time_truncates() -> None:
    # 25 physics steps are two control steps and a half.
    w = world(episode_steps=25, weights={"official": 1.0})
    w.reset(0)
    zero = np.zeros((3, 12))
    for _ in range(2):
        for _ in range(2):
            result = w.step(zero)
            assert not result.episodes and (result.reward == 0).all()
        result = w.step(zero)
        assert result.truncated.all() and not result.terminated.any()
        assert [e["seconds"] for e in result.episodes] == [0.05] * 3
        scores = [e["score"] for e in result.episodes]
        np.testing.assert_allclose(result.reward, scores, rtol=1e-6)
        assert [e["fallen"] for e in result.episodes] == [0, 0, 0]


def test_falling_as_time_runs_out_is_termination() -> None:
    def play(limit: int) -> tuple[StepResult, int]:
        w = world(KICK, 1, episode_steps=limit, decimation=1)
        w.reset(0)
        for step in range(1, limit + 1):
            result = w.step(np.ones((1, 12)))
            if result.episodes:
                return result, step
        raise AssertionError("nothing ended")

    _, fall = play(game.EPISODE_STEPS)
    for limit, falls in ((fall, True), (fall - 1, False)):
        result, step = play(limit)
        assert (step, result.terminated[0], result.truncated[0]) == (limit, falls, not falls)


def test_without_auto_reset_worlds_wait() -> None:
    w = world(auto_reset=False)
    w.reset(0)
    records: list[dict[str, float]] = []
    for action in actions(60):
        before = states(w)
        over = w._ended.copy()
        result = w.step(action)
        records += result.episodes
        np.testing.assert_array_equal(states(w)[over], before[over])
        np.testing.assert_array_equal(result.observation, result.final_observation)
    assert sorted(e["env"] for e in records) == [0, 1, 2]
    w.reset(0)
    assert not w.step(actions(1)[0]).terminated.any()


def test_reset_restarts_everything() -> None:
    w = world(level=3)
    first = w.reset(4)
    run = [w.step(action) for action in actions(10)]
    np.testing.assert_array_equal(w.reset(4), first)
    for action, result in zip(actions(10), run, strict=True):
        assert_same(w.step(action), result)
    assert (w.reset(5) != first).any(axis=1).all()


@pytest.mark.parametrize("level", [0, 3])
def test_threads_change_nothing(level: int) -> None:
    weights = dict.fromkeys(("alive", "smoothness", "approach"), 1.0)
    one, two = (world(num_envs=9, level=level, weights=weights, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.reset(0), two.reset(0))
    for action in actions(30, 9):
        assert_same(one.step(action), two.step(action))
    two.close()


# -- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 3])
def test_a_restored_world_goes_on_bit_for_bit(level: int, tmp_path: Path) -> None:
    weights = {"alive": 1.0, "smoothness": -0.5, "torque": -0.1, "approach": 0.3}
    options: dict[str, Any] = {"level": level, "weights": weights}
    straight = world(num_envs=4, **options)
    straight.reset(7)
    run = actions(90, 4)
    for action in run[:45]:  # worlds fall and start anew before and after
        straight.step(action)
    checkpoint.save(tmp_path / "c", straight.state())
    resumed = world(num_envs=4, **options)
    resumed.restore(checkpoint.load(tmp_path / "c")[0])
    ended = 0
    for action in run[45:]:
        result = straight.step(action)
        assert_same(resumed.step(action), result)
        ended += len(result.episodes)
    assert ended >= 2


def test_a_state_is_a_copy() -> None:
    w = world(level=3)
    w.reset(0)
    state = w.state()
    expected = [w.step(action) for action in actions(5)]
    for _ in range(2):
        w.restore(state)
        for action, result in zip(actions(5), expected, strict=True):
            assert_same(w.step(action), result)


def test_a_foreign_state_is_refused() -> None:
    for other in (world(num_envs=4), world(["goalie"], 3), world(["goalie", "kick_to_target"], 3)):
        other.reset(0)
        with pytest.raises(ValueError, match="world"):
            world().restore(other.state())
    with pytest.raises(ValueError, match="lacks"):
        world().restore({})


def test_a_step_needs_a_reset() -> None:
    with pytest.raises(ValueError, match="reset"):
        world().step(np.zeros((3, 12)))


def test_features_follow_the_official_numbers() -> None:
    names = ("clock", "egocentric", "previous_action")
    with_features, without = world(features=names, gait_frequency=2.0), world()
    assert with_features.observation_size == observation.size(names)
    np.testing.assert_array_equal(with_features.reset(0)[:, :89], without.reset(0))
    for k, action in enumerate(actions(3)):
        seen = with_features.step(action).final_observation
        np.testing.assert_array_equal(seen[:, :89], without.step(action).final_observation)
        turn = 2 * np.pi * 2.0 * 0.02 * (k + 1)
        np.testing.assert_allclose(seen[:, 89], np.sin(turn), atol=1e-6)
        np.testing.assert_allclose(seen[:, 90], np.cos(turn), atol=1e-6)
        np.testing.assert_allclose(seen[:, -12:], action, atol=1e-6)


def test_air_time_counts_from_the_last_contact() -> None:
    # A robot spawns in the air and lands within 0.1 s; landing is paid once a foot.
    w = world(KICK, 1, weights={"feet_air_time": 1.0}, auto_reset=False)
    w.reset(0)
    paid = [float(w.step(np.zeros((1, 12))).reward[0]) for _ in range(12)]
    landings = [p for p in paid if p]
    assert 1 <= len(landings) <= 2 and sum(landings) == pytest.approx(2 * (0.08 - 0.2), abs=0.06)
    assert (w._episode.air_time == 0).all()


def test_changes_of_the_score_add_up_to_it() -> None:
    """A ball rolls at the goal from a kick that nobody gave: the sum is the score at the end."""
    w = world(weights={"score_change": 2.0}, auto_reset=False)
    w.reset(1)
    first = w.step(np.zeros((3, 12)))
    np.testing.assert_array_equal(first.reward, 0.0)
    begun = scoring.running_score(w.frame())
    for slot in w._slots:
        slot.qvel[0] = -6.0  # m/s along x
    paid = w.step(np.zeros((3, 12))).reward.astype(np.float64)
    kicked = scoring.running_score(w.frame())
    assert (kicked[:2] - begun[:2] > 7.0).all()  # 1.5 times 6 m/s, less what friction takes
    np.testing.assert_allclose(paid, 2.0 * (kicked - begun), atol=1e-6)
    alive = np.ones(3, bool)
    ended = {}
    while alive.any():
        result = w.step(np.zeros((3, 12)))
        paid += np.where(alive, result.reward, 0.0)
        ended |= {int(e["env"]): e for e in result.episodes}
        # The frame is of the step's last physics step, which may lie behind the end.
        last = np.where(result.truncated, scoring.running_score(w.frame()), w._episode.score)
        for i in np.flatnonzero(alive & (result.terminated | result.truncated)):
            assert paid[i] == pytest.approx(2.0 * (last[i] - begun[i]), abs=1e-4)
            assert ended[int(i)]["reward.score_change"] == pytest.approx(paid[i], abs=1e-4)
            alive[i] = False


def test_the_velocity_of_the_ball_s_centre() -> None:
    w = world(KICK, 1)
    w.reset(0)
    w._slots[0].qvel[:6] = (0.5, -1.0, 0.2, 3.0, 4.0, -5.0)
    for _ in range(3):
        w.step(np.zeros((1, 12)))
    data, parts = w._shared_of[0].data, w._shared_of[0].parts
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(
        parts.model, data, mujoco.mjtObj.mjOBJ_GEOM, int(np.ravel(parts.ball_geom)[0]), velocity, 0
    )
    # MuJoCo tells it for orientations that lag by one physics step, as the frame's do.
    np.testing.assert_allclose(w.frame().ball_center_vel[0], velocity[3:], atol=3e-2)
    assert np.abs(w.frame().ball_vel[0] - velocity[3:]).max() > 0.1


def test_the_record_of_an_episode_tells_what_each_term_paid() -> None:
    w = world(weights={"alive": 1.0, "pose": 0.0, "fall": -5.0}, episode_steps=1000)
    w.reset(0)
    ended = [e for action in actions(100) for e in w.step(action).episodes]
    assert len(ended) > 3
    for episode in ended:
        assert "reward.pose" not in episode
        total = episode["reward.alive"] + episode["reward.fall"]
        assert total == pytest.approx(episode["return"], rel=1e-5)
        assert episode["reward.fall"] == -5 * episode["fallen"]
        assert episode["reward.alive"] == pytest.approx(episode["seconds"] / 0.02, abs=1.01)


def test_a_state_of_an_earlier_release_has_no_sums_of_terms() -> None:
    options: dict[str, Any] = {"weights": {"alive": 1.0, "pose": 0.2}, "episode_steps": 200}
    w, again = world(**options), world(**options)
    w.reset(0)
    for action in actions(5):
        w.step(action)
    state = w.state()
    del state["term_sums"]
    again.restore(state)
    for action in actions(5, seed=1):
        ours, theirs = again.step(action), w.step(action)
        assert_same(ours._replace(episodes=[]), theirs._replace(episodes=[]))
    for mine, whole in zip(ours.episodes, theirs.episodes, strict=True):
        assert mine["return"] == whole["return"]
        assert mine["reward.alive"] == 5 and whole["reward.alive"] == 10


# -- physics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 3])
def test_inner_torque_is_the_pd_law(level: int) -> None:
    w = world(num_envs=6, level=level)
    w.reset(0)
    assert (w._factors.kp != 1).all() == (level == 3)
    clipped = 0
    for action in actions(3, 6):
        q = np.stack([slot.qpos[-12:] for slot in w._slots])
        v = np.stack([slot.qvel[-12:] for slot in w._slots])
        late = w._factors.action_delay[:, None] > 0
        target = pd_target(np.where(late, w._action, action), GAINS)
        mine = GAINS._replace(
            kp=GAINS.kp * w._factors.kp[:, None], kd=GAINS.kd * w._factors.kd[:, None]
        )
        w.step(action)
        for k in range(10):
            np.testing.assert_array_equal(w._torque[:, k], pd_torque(target, q, v, mine))
            q, v = w._record[:, k, 7:19], w._record[:, k, 25:37]
        clipped += (np.abs(w._torque) == GAINS.torque_limit).sum()
    assert 0 < clipped < w._torque.size * 3


def test_torque_mode_applies_fractions_of_the_limits() -> None:
    w = world(KICK, 1, mode="torque")
    w.reset(0)
    action = actions(1, 1)[0]
    w.step(action)
    np.testing.assert_array_equal(w._torque[0], np.tile(action[0] * GAINS.torque_limit, (10, 1)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e11])
@pytest.mark.parametrize("auto_reset", [True, False])
def test_a_lost_world_is_contained(
    bad: float, auto_reset: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs a warning to the working directory
    weights = dict.fromkeys(("alive", "torque", "ball_velocity", "official"), 1.0)
    lost, calm = (world(weights=weights, auto_reset=auto_reset) for _ in range(2))
    for w in (lost, calm):
        w.reset(0)
        w.step(np.zeros((3, 12)))
    lost._slots[1].qvel[-1] = bad
    result, expected = (w.step(np.zeros((3, 12))) for w in (lost, calm))
    assert result.terminated.tolist() == [False, True, False]
    assert result.reward[1] == 0 and (result.final_observation[1] == 0).all()
    assert not result.truncated.any()
    (record,) = result.episodes
    assert record["env"] == 1 and record["seconds"] == pytest.approx(0.022)
    worst = {"lost": 1, "score": -6.0, "fallen": 1, "success": 0}
    assert {name: record[name] for name in worst} == pytest.approx(worst)
    assert np.isfinite(list(record.values())).all()
    if auto_reset:
        assert (result.observation[1, :24] == 0).all() and lost._episode.steps[1] == 0
    for _ in range(3):
        assert np.isfinite(result.observation).all() and np.isfinite(result.reward).all()
        for name in ("observation", "final_observation", "reward"):
            ours, theirs = getattr(result, name), getattr(expected, name)
            np.testing.assert_array_equal(ours[[0, 2]], theirs[[0, 2]])
        result, expected = (w.step(np.zeros((3, 12))) for w in (lost, calm))
        assert result.terminated[1] == (not auto_reset) and not result.episodes


# -- randomization -----------------------------------------------------------------------------


def base(w: NativeWorld) -> mujoco.MjModel:
    return w._slots[0].parts.model


def test_level_zero_is_the_official_model() -> None:
    w = world()
    w.reset(0)
    moved = {"site_pos", "geom_pos"}  # the target and the defenders
    for slot in w._slots:
        for name in dir(slot.model):
            value = getattr(slot.model, name)
            if isinstance(value, np.ndarray) and name not in moved:
                np.testing.assert_array_equal(value, getattr(slot.parts.model, name), err_msg=name)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_factors_reach_the_model(level: int) -> None:
    w = world(KICK, 12, level=level)
    w.reset(0)
    widths, b = {**dict.fromkeys(DRAWS, 0.0), **LEVELS[level].widths}, base(w)
    parts = w._slots[0].parts
    robot, joints = parts.robot_bodies, slice(-12, None)

    def ratio(name: str, where: Any) -> np.ndarray:
        """(worlds, ...): each world's quantity over the official one."""
        return np.stack([getattr(s.model, name)[where] for s in w._slots]) / getattr(b, name)[where]

    def spread(values: np.ndarray, width: float) -> None:
        assert np.abs(values - 1).max() <= width + 1e-12
        assert np.abs(values - 1).max() >= 0.5 * width
        assert len(np.unique(values)) > 1 or not width

    f = w._factors
    spread(f.body_mass, widths["body_mass"])
    np.testing.assert_allclose(ratio("body_mass", robot), f.body_mass)
    np.testing.assert_allclose(
        ratio("body_inertia", robot), np.repeat(f.body_mass[..., None], 3, axis=-1)
    )
    spread(f.ball_mass, widths["ball_mass"])
    np.testing.assert_allclose(ratio("body_mass", parts.ball_body), f.ball_mass)
    spread(f.damping, widths["damping"])
    assert (b.dof_frictionloss[joints] == 0.1).all()
    np.testing.assert_allclose(ratio("dof_frictionloss", joints), f.damping)
    for quantity in ("friction", "ball_friction", "foot_friction"):
        spread(getattr(f, quantity), widths[quantity])
    # What does not belong to the robot or the ball keeps its mass.
    others = np.setdiff1d(np.flatnonzero(b.body_mass), [*robot, parts.ball_body])
    assert (ratio("body_mass", others) == 1).all()


def placed(slot: Any) -> mujoco.MjData:
    """A data in the state of one world, which keeps its contacts alive."""
    data = mujoco.MjData(slot.model)
    mujoco.mj_setState(slot.model, data, slot.state, stepping.STATE)
    mujoco.mj_forward(slot.model, data)
    return data


@pytest.mark.parametrize("level", range(4))
def test_friction_reaches_the_contacts(level: int) -> None:
    w = world(KICK, 6, level=level)
    w.reset(0)
    for _ in range(8):
        w.step(np.zeros((6, 12)))
    f = w._factors
    for i, slot in enumerate(w._slots):
        own = {
            "ball": ([slot.parts.ball_geom], f.friction[i] * f.ball_friction[i]),
            "feet": (slot.parts.foot_geoms, f.friction[i] * f.foot_friction[i]),
        }
        data = placed(slot)
        for part, (geoms, expected) in own.items():
            touching = [c for c in data.contact if set(c.geom) & set(geoms)]
            assert touching, part
            for contact in touching:
                # The official friction of either contact is 1.
                np.testing.assert_allclose(contact.friction[:2], expected, err_msg=part)


ONE_AT_A_TIME = {
    "mass": Level({"body_mass": 0.2}),
    "friction": Level({"friction": 0.5}),
    "damping": Level({"damping": 0.2}),
    "ball_mass": Level({"ball_mass": 0.2}),
    "ball_friction": Level({"ball_friction": 0.3}),
    "foot_friction": Level({"foot_friction": 0.5}),
    "gains": Level({"kp": 0.1, "kd": 0.1}),
    "push_speed": Level(push_speed=0.5, push_interval=0.05),
    "action_delay": Level({"action_delay": 1}),
}


@pytest.mark.parametrize("quantity", ONE_AT_A_TIME)
def test_each_quantity_changes_the_trajectory(
    quantity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(randomization, "LEVELS", (Level(), ONE_AT_A_TIME[quantity]))
    ends = []
    for level in (0, 1):
        w = world(KICK, 2, level=level)
        w.reset(1)
        for slot in w._slots:  # the ball rolls against the feet
            to_robot = slot.qpos[7:9] - slot.qpos[:2]
            slot.qvel[:2] = 6 * to_robot / np.linalg.norm(to_robot)
        for action in 0.3 * actions(25, 2):
            w.step(action)
        ends.append(np.stack([np.concatenate([s.qpos, s.qvel]) for s in w._slots]))
    ball, robot = [*range(7), *range(26, 32)], [*range(7, 26), *range(32, 50)]
    moved = np.abs(ends[0] - ends[1]).max(axis=0)
    assert moved[ball if quantity.startswith("ball") else robot].max() > 1e-4


IDLE = Level(push_interval=1.0)
"""Changes nothing, by the same code: preparing a model rounds differently from compiling it."""


def test_quantities_cover_the_level() -> None:
    alone = {"body_mass" if name == "mass" else name for name in ONE_AT_A_TIME}
    assert alone - {"gains", "push_speed"} | {"kp", "kd"} == set(DRAWS)


def test_noise_blurs_what_is_measured_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomization, "LEVELS", (Level(), Level(observation_noise=0.03), IDLE))
    clean, noisy = world(num_envs=30, level=2), world(num_envs=30, level=1)
    off = [noisy.reset(0) - clean.reset(0)]
    for action in actions(3, 30):
        ours, theirs = noisy.step(action), clean.step(action)
        off += [ours.observation - theirs.observation]
        np.testing.assert_array_equal(ours.reward, theirs.reward)
    np.testing.assert_array_equal(states(noisy)[:, :50], states(clean)[:, :50])
    errors = np.concatenate(off)
    scales = 0.03 * np.array(observation.noise())
    assert (errors[:, scales == 0] == 0).all() and (scales == 0).sum() == 5
    normal = errors[:, scales > 0] / scales[scales > 0]
    bound = 5 / np.sqrt(2 * len(errors))  # five standard errors of a deviation
    np.testing.assert_allclose(normal.std(axis=0), 1, rtol=bound)
    assert normal.std() == pytest.approx(1, rel=0.02)
    assert normal.mean() == pytest.approx(0, abs=0.05)
    assert len(np.unique(errors[:, 0])) == len(errors)


def test_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    # One in 0.2 s on average: one control step in ten.
    level = Level(push_speed=0.5, push_interval=0.2)
    monkeypatch.setattr(randomization, "LEVELS", (Level(), level))
    w = world(KICK, 2, level=1)
    w.reset(0)
    steps = []
    for _ in range(1000):
        before = np.stack([slot.qvel.copy() for slot in w._slots])
        w._push()
        steps.append(np.stack([slot.qvel.copy() for slot in w._slots]) - before)
    change = np.concatenate(steps)
    root = w._slots[0].parts.root_qvel
    assert (np.delete(change, [root, root + 1], axis=1) == 0).all()
    speed = np.linalg.norm(change[:, root : root + 2], axis=1)
    hit = speed > 0
    assert hit.sum() == pytest.approx(200, abs=5 * np.sqrt(180))
    assert 0.4 < speed.max() <= 0.5 and speed[hit].mean() == pytest.approx(0.25, abs=0.06)
    angle = np.arctan2(change[hit, root + 1], change[hit, root])
    assert (np.histogram(angle, 4, (-np.pi, np.pi))[0] > 20).all()


def test_a_delayed_action_is_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomization, "LEVELS", (Level(), Level({"action_delay": 1}), IDLE))
    late = world(KICK, 8, level=1)
    late.reset(0)
    delayed = late._factors.action_delay == 1
    assert 0 < delayed.sum() < 8
    on_time = world(KICK, 8, level=2)
    on_time.reset(0)
    run = 0.5 * actions(6, 8)
    shifted = np.concatenate([np.zeros((1, 8, 12)), run[:-1]])
    for action, before in zip(run, shifted, strict=True):
        ours = late.step(action)
        theirs = on_time.step(np.where(delayed[:, None], before, action))
        np.testing.assert_array_equal(ours.observation, theirs.observation)


def test_scaled_rewards_count_by_their_factor_and_the_others_whole() -> None:
    weights = {"alive": 1.0, "height": 2.0, "smoothness": -0.3}
    scaled, plain, without = (
        world(weights=w) for w in (weights, weights, {**weights, "height": 0})
    )
    for w in (scaled, plain, without):
        w.reset(0)
    scaled.scale_rewards({"height": 0.25, "gait": 7.0})
    for action in actions(5):
        reward, whole, rest = (w.step(action).reward for w in (scaled, plain, without))
        np.testing.assert_allclose(reward, rest + 0.25 * (whole - rest), rtol=1e-5)
        assert (whole != rest).all()
    scaled.scale_rewards({})
    np.testing.assert_array_equal(scaled.step(action).reward, plain.step(action).reward)


def test_a_share_of_episodes_begins_nearer_to_the_ball() -> None:
    """Training alone: the official spawns of the other worlds, and of evaluation, stay."""
    far, near = world(num_envs=60), world(num_envs=60, near_ball=0.5)
    for w in (far, near):
        w.reset(0)

    def distances(w: NativeWorld) -> np.ndarray:
        roots = [slot.qpos[slot.parts.root_qpos :][:2] for slot in w._slots]
        return np.array([np.linalg.norm(slot.qpos[:2] - root)
                         for slot, root in zip(w._slots, roots, strict=True)])  # fmt: skip

    before, after = distances(far), distances(near)
    moved = before - after > 1e-9
    assert 15 < moved.sum() < 45 and np.array_equal(before[~moved], after[~moved])
    assert after.min() >= 0.35 - 1e-6
