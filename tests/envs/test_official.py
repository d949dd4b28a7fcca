"""Native worlds against the official environment, step by step."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import mujoco
import numpy as np
import pytest

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official import (
    make_official,
    observe_official,
    score_official,
    unprefixed_attach,
)
from booster_ray.evaluate.scores import gains
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_target, pd_torque

GAINS = gains(Config())
TOLERANCE = 1e-6
SEEDS = range(20)
KICK_SEED = 0

Act = Callable[[mujoco.MjData], np.ndarray]


def torque_world(task: str, num_envs: int = 1, **options: Any) -> NativeWorld:
    return NativeWorld(
        [task], num_envs, GAINS, mode="torque", decimation=1, auto_reset=False, **options
    )


def data(env: Any) -> mujoco.MjData:
    return env.unwrapped.sim.data._data


def stand(state: mujoco.MjData) -> np.ndarray:
    """Torques, as fractions of their limits, that hold the default pose for a second or so."""
    torque = pd_torque(GAINS.default_pose, state.qpos[-12:], state.qvel[-12:], GAINS)
    return torque / GAINS.torque_limit


def assert_alike(env: Any, world: NativeWorld, task: str, act: Act) -> dict[str, Any]:
    """Play both to the end and compare every step; the official info of the last."""
    for step in range(1, game.EPISODE_STEPS + 1):
        action = act(data(env))
        observation, _, terminated, truncated, info = env.step(action * GAINS.torque_limit)
        result = world.step(action[None])
        np.testing.assert_allclose(
            result.final_observation[0],
            observe_official(observation, info, task),
            atol=TOLERANCE,
            rtol=0,
            err_msg=f"step {step}",
        )
        assert (result.terminated[0], result.truncated[0]) == (terminated, truncated)
        if terminated or truncated:
            (episode,) = result.episodes
            official = score_official(info["reward_terms"], task)
            assert episode["score"] == pytest.approx(official, abs=TOLERANCE)
            assert episode["success"] == info["success"]
            assert episode["seconds"] == pytest.approx(step * game.TIMESTEP)
            return info
        assert not result.episodes
    raise AssertionError("the official episode has no end")


def test_spawns(env: Any, task: str) -> None:
    world = torque_world(task, len(SEEDS))
    ours = world.reset(0, env_seeds=SEEDS)
    for seed, observation in zip(SEEDS, ours, strict=True):
        official = observe_official(*env.reset(seed=seed), task)
        np.testing.assert_allclose(observation, official, atol=TOLERANCE, err_msg=f"seed {seed}")
        np.testing.assert_allclose(world._slots[seed].qpos, data(env).qpos, atol=1e-12)
    varied = {"goalie": 1, "obstacle": 10, "kick_to_target": len(SEEDS)}[task]
    assert len(np.unique(ours, axis=0)) >= varied


@pytest.mark.parametrize("kind", ["random", "stand"])
def test_episodes(env: Any, task: str, kind: str) -> None:
    world = torque_world(task)
    env.reset(seed=5)
    world.reset(0, env_seeds=[5])
    rng = np.random.default_rng(5)
    acts: dict[str, Act] = {"random": lambda _: rng.uniform(-1, 1, 12), "stand": stand}
    assert_alike(env, world, task, acts[kind])
    # Either way the robot falls, after 0.3 s and 1.15 s; see also FACTS' "a second or so".
    assert (world._episode.steps[0] > 500) == (kind == "stand") and world._episode.steps[0] > 100


def kick(seconds: float, ball: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Ball velocity (3,) that brings it from ``ball`` to ``to`` through the air."""
    return (to - ball) / seconds + [0, 0, 0.5 * 9.81 * seconds]


# The official environment moves its panels after the model is compiled, but MuJoCo looks for
# their collisions where they were (the body's bounding volumes are static): a panel stops the
# ball only near its compiled y, and is a ghost elsewhere. The native world shares that.
COMPILED_PANELS = (-0.48, 0.48, 1.44)
MISSING = {"goalie": ["ghost"], "obstacle": [], "kick_to_target": ["block", "ghost"]}


def penalty_kick(state: mujoco.MjData, task: str, event: str) -> tuple[np.ndarray, np.ndarray]:
    """Ball position and velocity, each (3,), that lead to ``event``."""
    ball = state.qpos[:3] + np.array([0, 0, 0.5])  # clear of the ground, whose contact is soft
    if task == "kick_to_target":
        aim = state.site("target0").xpos.copy()
        ball[:2] = aim[:2] - [np.sign(aim[0]), 0]  # 1 m from it, towards the centre
        if event == "offside":
            ball[:2], aim = (0.0, 6.5), np.array([0.0, 8.0, 0.5])
        return ball, kick(0.15, ball, aim + np.array([0, 0, 0.1]))
    if event == "offside":
        return ball, kick(0.2, ball, np.array([-11.0, 2.5, 1.0]))
    if task == "goalie":
        return ball, kick(0.2, ball, np.array([-11.0, {"success": -1.2, "block": 0.3}[event], 0.4]))
    if event == "success":
        return ball, kick(0.2, ball, state.site("goalarea_site").xpos.copy())
    panels = [state.geom(f"defender_geom{i}").xpos.copy() for i in range(3)]
    home = [abs(panel[1] - y) < 0.3 for panel, y in zip(panels, COMPILED_PANELS, strict=True)]
    return ball, kick(0.2, ball, panels[home.index(event == "block")])


@pytest.mark.parametrize("event", ["success", "offside", "block", "ghost"])
def test_kicked_balls(env: Any, task: str, event: str) -> None:
    if event in MISSING[task]:
        pytest.skip("nothing of the kind in this task")
    world = torque_world(task)
    env.reset(seed=KICK_SEED)
    world.reset(0, env_seeds=[KICK_SEED])
    ball, velocity = penalty_kick(data(env), task, event)
    for state in (data(env), world._slots[0]):
        state.qpos[:3], state.qvel[:3] = ball, velocity
    info = assert_alike(env, world, task, stand)
    terms = info["reward_terms"]
    happened = {
        "success": info["success"],
        "offside": terms["offside"],
        "block": terms.get("ball_blocked", False),
    }
    assert [name for name, yes in happened.items() if yes] == [
        "offside" if event == "ghost" else event
    ]


def test_touches_are_counted_alike(env: Any, task: str) -> None:
    # A ball that rolls against the feet, and away.
    world = torque_world(task)
    env.reset(seed=1)
    world.reset(0, env_seeds=[1])
    at = data(env).site("robot_0:imu").xpos - data(env).qpos[:3]
    for state in (data(env), world._slots[0]):
        state.qvel[:2] = 8 * at[:2] / np.linalg.norm(at[:2])
    assert_alike(env, world, task, stand)
    assert (
        world._episode.hits[0]
        == getattr(env.unwrapped, "ball_hits_by_robot", world._episode.hits[0])
        > 0
    )


def test_time_limit(env: Any, task: str) -> None:
    world = torque_world(task, episode_steps=30)
    env.reset(seed=2)
    world.reset(0, env_seeds=[2])
    limit = env
    while not hasattr(limit, "_elapsed_steps"):
        limit = limit.env
    limit._elapsed_steps = game.EPISODE_STEPS - 30
    assert_alike(env, world, task, stand)
    assert world._episode.steps[0] == 30


def test_pd_episodes(env: Any, task: str) -> None:
    action = 0.1 * np.cos(np.arange(12))
    target = pd_target(action, GAINS)
    world = NativeWorld([task], 1, GAINS, auto_reset=False)
    world.reset(0, env_seeds=[3])
    env.reset(seed=3)
    ended = False
    while not ended:
        torque = pd_torque(target, data(env).qpos[-12:], data(env).qvel[-12:], GAINS)
        *_, terminated, truncated, info = env.step(torque)
        ended = terminated or truncated
    while not (result := world.step(action[None])).episodes:
        pass
    (episode,) = result.episodes
    assert episode["score"] == pytest.approx(score_official(info["reward_terms"], task), abs=1e-6)
    assert episode["seconds"] == pytest.approx(data(env).time)
    assert episode["success"] == info["success"]
    assert episode["fallen"] == (not data(env).site("robot_0:imu").xpos[2] > game.FALL_HEIGHT)


def test_official_needs_the_name_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    original = mujoco.MjSpec.attach
    monkeypatch.setattr("booster_ray.envs.official.unprefixed_attach", nullcontext)
    with pytest.raises(ValueError, match="soccer_ball"):
        make_official("kick_to_target")
    assert mujoco.MjSpec.attach is original


def test_name_fix_is_narrow() -> None:
    original = mujoco.MjSpec.attach
    with pytest.raises(RuntimeError), unprefixed_attach():
        assert mujoco.MjSpec.attach is not original
        raise RuntimeError
    assert mujoco.MjSpec.attach is original
