"""The gymnasium face of the native worlds."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from booster_ray.envs.official import make_official, observe_official
from booster_ray.envs.vector import IDS, SoccerEnv, SoccerVectorEnv
from booster_ray.soccer import game

SOCCER = "booster_ray.envs.vector:booster_ray/Soccer-v0"
LIMITS = np.array(game.TORQUE_LIMITS, np.float32)
PD = {"mode": "pd", "decimation": 10}


def make_vec(name: str = SOCCER, num_envs: int = 3, **options: Any) -> SoccerVectorEnv:
    return gymnasium.make_vec(name, num_envs=num_envs, **options)


def torques(steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    high = np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 12))
    return (high * LIMITS).astype(np.float32)


def play(envs: SoccerVectorEnv, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    return [envs.step(action) for action in torques(steps, envs.num_envs, seed)]


def assert_same(left: Any, right: Any) -> None:
    """Equal trees of arrays and dicts, bit for bit."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, tuple) or (isinstance(left, np.ndarray) and left.dtype == object):
        for one, two in zip(left, right, strict=True):
            assert_same(one, two)
    else:
        np.testing.assert_array_equal(left, right)


# -- spaces and checks -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*Box.*")  # the official spaces: unbounded, and in N·m
@pytest.mark.parametrize("options", [{}, PD], ids=["torque", "pd"])
@pytest.mark.parametrize("name", [name for name, tasks in IDS.items() if len(tasks) == 1])
def test_single_environments_pass_gymnasiums_checks(name: str, options: dict[str, Any]) -> None:
    env = gymnasium.make(name, **options)
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("task", game.TASKS)
def test_spaces_are_the_official_ones(task: str) -> None:
    env, official = SoccerEnv(tasks=[task]), make_official(task)
    assert env.action_space == official.action_space
    assert env.observation_space.shape == (89,)
    assert env.observation_space.dtype == official.observation_space.dtype
    official.close()


FEATURES = {"features": ["clock", "egocentric"]}


@pytest.mark.filterwarnings("ignore:.*Box.*")
def test_a_single_environment_with_features_passes_gymnasiums_checks() -> None:
    env = gymnasium.make("booster_ray/GoaliePenaltyKick-v0", **FEATURES)
    assert env.observation_space.shape == (100,)
    check_env(env.unwrapped)
    env.close()


def test_what_a_vector_with_features_observes_is_in_its_space() -> None:
    envs = make_vec(**FEATURES)
    assert envs.single_observation_space.shape == (100,)
    assert envs.observation_space.shape == (3, 100)
    assert envs.reset(seed=0)[0] in envs.observation_space
    for _ in range(3):
        assert envs.step(envs.action_space.sample())[0] in envs.observation_space
    envs.close()


def test_a_vector_is_what_its_spaces_say() -> None:
    envs = make_vec(num_envs=4)
    assert envs.num_envs == 4 and envs.spec.id == "booster_ray/Soccer-v0"
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.action_space.shape == (4, 12) and envs.observation_space.shape == (4, 89)
    np.testing.assert_array_equal(envs.single_action_space.high, LIMITS)
    np.testing.assert_array_equal(envs.single_action_space.low, -LIMITS)
    observation, infos = envs.reset(seed=0)
    assert observation in envs.observation_space and infos == {}
    for _ in range(3):
        observation, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert observation in envs.observation_space
        for array, dtype in ((reward, np.float32), (terminated, bool), (truncated, bool)):
            assert array.shape == (4,) and array.dtype == dtype
        assert infos == {}
    assert (make_vec(**PD).single_action_space.high == 1).all()


def test_ids_deal_tasks() -> None:
    for name, tasks in IDS.items():
        envs = make_vec(name)
        assert [game.TASKS[t] for t in envs.world.task] == (tasks * 3)[:3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "velocity"}, "velocity"),
        ({"level": 7}, "level 7"),
        ({"tasks": ["golf"]}, "golf"),
        ({"num_envs": 2}, "num_envs is 2"),
        ({"reward": "total"}, "'score' or 'dense'"),
        ({"reward": "dense"}, "'dense' needs some"),
        ({"weights": {"alive": 1.0}}, "'dense' needs some, only it"),
        ({"reward": "dense", "weights": {"alife": 1.0}}, "alife.*alive"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_vec(**options)


def test_one_world_plays_one_task() -> None:
    with pytest.raises(ValueError, match="num_envs is 1"):
        gymnasium.make("booster_ray/Soccer-v0")


@pytest.mark.parametrize("bad", [np.zeros(12), np.zeros((2, 12)), np.full((3, 12), np.nan)])
def test_bad_actions(bad: np.ndarray) -> None:
    envs = make_vec()
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected \(3, 12\)|not finite"):
        envs.step(bad)


def test_step_needs_an_open_and_reset_environment() -> None:
    envs = make_vec(threads=2)
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros((3, 12)))
    envs.reset(seed=0)
    envs.step(np.zeros((3, 12)))
    for _ in range(2):
        envs.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.step(np.zeros((3, 12)))
    with pytest.raises(RuntimeError):
        envs.world._pool.submit(print)


# -- seeds -------------------------------------------------------------------------------------


def test_seeds() -> None:
    one, two = make_vec(num_envs=6), make_vec(num_envs=6)
    assert_same(one.reset(seed=7), two.reset(seed=7))
    assert_same(tuple(play(one, 200)), tuple(play(two, 200)))
    assert_same(one.reset(), two.reset())  # what follows is seeded, too
    seventh = one.reset(seed=7)[0]
    assert_same(two.reset(seed=range(7, 13))[0], seventh)
    # World i takes seed + i: of kick_to_target, worlds 2 and 5 here, worlds 2 and 8 of the other.
    shifted = two.reset(seed=10)[0]
    assert_same(shifted[2], seventh[5])
    assert (shifted[2] != seventh[2]).any()
    with pytest.raises(ValueError, match="2 seeds for 6 worlds"):
        one.reset(seed=[1, 2])


def test_resets_without_a_seed_differ() -> None:
    first, second = (make_vec(seed=s) for s in (0, 1))
    again = make_vec(seed=0)
    spawn = first.reset()[0][2]
    assert_same(again.reset()[0][2], spawn)
    assert (second.reset()[0][2] != spawn).any() and (first.reset()[0][2] != spawn).any()
    assert (make_vec().reset()[0][2] != make_vec().reset()[0][2]).any()


# -- same-step autoreset -----------------------------------------------------------------------


def test_autoreset_is_of_the_same_step() -> None:
    envs = make_vec(num_envs=6)
    envs.reset(seed=0)
    ended = np.zeros(6, int)
    begun = np.zeros(6, int)
    for step, (observation, reward, terminated, truncated, infos) in enumerate(play(envs, 400), 1):
        over = terminated | truncated
        assert (reward[~over] == 0).all() and not truncated.any()
        assert bool(infos) == over.any()
        if not infos:
            continue
        np.testing.assert_array_equal(infos["_final_obs"], over)
        np.testing.assert_array_equal(infos["_final_info"], over)
        final = infos["final_info"]
        for i in np.flatnonzero(over):
            assert (observation[i, :24] == 0).all()  # straight legs at rest: a spawn
            assert np.abs(infos["final_obs"][i][:24]).max() > 0.1
            assert final["task"][i] == envs.world.task[i] and final["fallen"][i] == 1
            assert reward[i] == np.float32(final["score"][i]) != 0
            assert final["episode"]["r"][i] == reward[i]
            assert final["episode"]["l"][i] == step - begun[i]
            assert final["seconds"][i] == pytest.approx(0.002 * (step - begun[i]))
        assert all(last is None for last in infos["final_obs"][~over])
        begun[over] = step
        ended += over
    assert (ended >= 1).all() and ended.max() > 1


def test_truncation() -> None:
    envs = make_vec(episode_steps=25, **PD)
    envs.reset(seed=0)
    for step in range(1, 7):
        _, reward, terminated, truncated, infos = envs.step(np.zeros((3, 12)))
        assert not terminated.any() and truncated.all() == (step % 3 == 0)
    assert infos["final_info"]["episode"]["l"].tolist() == [3, 3, 3]
    np.testing.assert_array_equal(reward, infos["final_info"]["score"].astype(np.float32))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_lost_world_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs a warning to the working directory
    envs = make_vec()
    envs.reset(seed=0)
    envs.world._slots[1].qvel[-1] = np.nan
    observation, reward, terminated, _, infos = envs.step(np.zeros((3, 12)))
    assert terminated.tolist() == [False, True, False] and (reward == 0).all()
    assert infos["final_info"]["lost"].tolist() == [0, 1, 0] and np.isfinite(observation).all()
    assert infos["final_info"]["fallen"][1] == 1 and infos["final_info"]["score"][
        1
    ] == pytest.approx(-6)


def test_dense_reward() -> None:
    envs = make_vec(reward="dense", weights={"alive": 2.0, "smoothness": 1.0}, seed=0)
    envs.reset()
    # Actions in N·m count as fractions of the limits: from 0 to full torque is a change of 1.
    _, reward, *_ = envs.step(np.tile(LIMITS, (3, 1)))
    np.testing.assert_allclose(reward, 3.0 * game.TIMESTEP, rtol=1e-6)


# -- the official game -------------------------------------------------------------------------


@pytest.mark.parametrize("task", game.TASKS)
def test_it_is_the_official_game(task: str) -> None:
    seeds = (3, 4)
    env = make_official(task)
    name = next(name for name, tasks in IDS.items() if tasks == [task])
    envs = make_vec(name, 2)
    first, _ = envs.reset(seed=seeds[0])
    ours = play(envs, 400)
    ends = [next(k for k, step in enumerate(ours) if step[2][i]) for i in range(2)]
    for i, seed in enumerate(seeds):
        official = observe_official(*env.reset(seed=seed), task)
        np.testing.assert_array_equal(first[i], official)
        for k, action in enumerate(torques(400, 2)[:, i]):
            observation, _, terminated, _, info = env.step(action)
            official = observe_official(observation, info, task)
            mine = ours[k][0][i] if k < ends[i] else ours[k][4]["final_obs"][i]
            np.testing.assert_allclose(mine, official, rtol=0, atol=1e-6)
            assert terminated == (k == ends[i])
            if terminated:
                break
    env.close()


def test_one_world_is_one_of_many() -> None:
    env, envs = SoccerEnv(tasks=["kick_to_target"]), make_vec("booster_ray/KickToTarget-v0", 2)
    assert_same(env.reset(seed=5)[0], envs.reset(seed=4)[0][1])
    for action in torques(200, 2):
        observation, reward, ended, _, info = env.step(action[1])
        many = envs.step(action)
        assert (reward, ended) == (many[1][1], many[2][1])
        if ended:
            assert_same(observation, many[4]["final_obs"][1])
            assert info["score"] == many[4]["final_info"]["score"][1] and info["fallen"]
            return
        assert_same(observation, many[0][1])
        assert info == {}
    raise AssertionError("random torques should make it fall")


# -- a trainer ---------------------------------------------------------------------------------


class Agent:
    """A Gaussian policy, linear in the observation, with a linear value: PPO without a network."""

    def __init__(self, envs: gymnasium.vector.VectorEnv, rng: np.random.Generator) -> None:
        inputs = int(np.prod(envs.single_observation_space.shape))
        self.mean = np.zeros((inputs, int(np.prod(envs.single_action_space.shape))))
        self.value = np.zeros(inputs)
        self.rng = rng

    def act(self, seen: np.ndarray) -> np.ndarray:
        mean = seen @ self.mean
        return mean + 0.2 * self.rng.standard_normal(mean.shape)

    def update(
        self, seen: np.ndarray, action: np.ndarray, advantage: np.ndarray, target: np.ndarray
    ) -> None:
        normal = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        score = (action - seen @ self.mean) / 0.2**2
        self.mean += 1e-4 * seen.T @ (normal[:, None] * score) / len(seen)
        self.value += 0.01 * seen.T @ (target - seen @ self.value) / len(seen)


@pytest.mark.slow
def test_a_cleanrl_style_trainer_runs_unchanged() -> None:
    # The loop of CleanRL's ppo_continuous_action; nothing in it knows of this package.
    # gymnasium 1.1's RecordEpisodeStatistics miscounts same-step autoreset (it drops the first
    # step of each episode), so the episodes are read where the environment puts them.
    envs: Any = make_vec(
        num_envs=8, reward="dense", weights={"alive": 0.1, "upright": 0.1}, seed=0, **PD
    )
    envs = gymnasium.wrappers.vector.ClipAction(envs)
    envs = gymnasium.wrappers.vector.NormalizeReward(envs)
    agent = Agent(envs, np.random.default_rng(0))
    next_seen = envs.reset(seed=0)[0].clip(-10, 10) / 10
    lengths: list[float] = []
    steps, gamma = 64, 0.97
    for _ in range(20):
        rollout: list[tuple[np.ndarray, ...]] = []
        for _ in range(steps):
            seen, action = next_seen, agent.act(next_seen)
            next_seen, reward, terminated, truncated, infos = envs.step(action)
            next_seen = next_seen.clip(-10, 10) / 10
            rollout.append((seen, action, reward, next_seen, terminated | truncated))
            if "final_info" in infos:
                lengths += infos["final_info"]["episode"]["l"][infos["_final_info"]].tolist()
        seen, action, reward, after, done = (np.stack(part) for part in zip(*rollout, strict=True))
        target = reward + gamma * ~done * (after @ agent.value)
        flat = [part.reshape(-1, *part.shape[2:]) for part in (seen, action, target)]
        agent.update(flat[0], flat[1], flat[2] - flat[0] @ agent.value, flat[2])
    assert len(lengths) > 50 and np.isfinite(agent.mean).all() and (agent.mean != 0).any()
    assert np.mean(lengths[-20:]) > 10
    envs.close()
