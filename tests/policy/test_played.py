"""The module that plays: PD torques, the same in any batch, with a memory where one is needed."""

import copy

import numpy as np
import pytest
import torch

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official_view import official_view
from booster_ray.envs.options import gains
from booster_ray.evaluate.target import actor_target
from booster_ray.policy.played import Played, Remembering, make_played, script
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.soccer import game
from booster_ray.soccer.control import pd_target, pd_torque
from policies import actor

MEMORY = Settings(features=("previous_action",))


def told(n: int, settings: Settings, seed: int = 0) -> np.ndarray:
    width = settings.observation_size + 24
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def run(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(x)))


def test_torques_are_the_pd_law_of_the_action() -> None:
    policy, settings = actor(), Settings(action_scale=0.7, kp=(90.0,) * 6, kd=(2.0,) * 6)
    x, gains = told(50, settings), settings.gains()
    with torch.no_grad():
        action = policy(torch.from_numpy(x[:, :89])).numpy()
    wanted = pd_torque(pd_target(action, gains), x[:, 89:101], x[:, 101:113], gains)
    torque = run(script(make_played(policy, settings)), x)
    assert torque.dtype == np.float32
    np.testing.assert_allclose(torque, wanted, atol=1e-3)
    assert (np.abs(torque) == gains.torque_limit).any() and torque.std() > 5


def test_torque_mode() -> None:
    policy, settings = actor(), Settings(mode="torque")
    x = told(50, settings)
    with torch.no_grad():
        wanted = policy(torch.from_numpy(x[:, :89])).numpy() * game.TORQUE_LIMITS
    np.testing.assert_allclose(run(make_played(policy, settings), x), wanted, atol=1e-3)


def test_a_batch_of_any_size_gives_the_same_bits() -> None:
    policy, settings = actor(), Settings()
    module, x = script(make_played(policy, settings)), told(257, settings)
    together = run(module, x)
    for size in (1, 2, 30):
        parts = [run(module, x[i : i + size]) for i in range(0, len(x), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_it_neither_changes_nor_shares_the_actor() -> None:
    policy = actor()
    before = copy.deepcopy(policy.state_dict())
    module = make_played(policy, Settings())
    assert not any(p.requires_grad for p in module.parameters())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in policy.parameters())
    for name, value in policy.state_dict().items():
        assert torch.equal(value, before[name])


def test_only_a_policy_that_sees_its_previous_action_remembers() -> None:
    assert type(make_played(actor(), Settings())) is Played
    assert type(make_played(actor(("previous_action",)), MEMORY)) is Remembering


def test_the_memory_is_of_each_environment_apart() -> None:
    policy = actor(("previous_action",))
    module, n = script(make_played(policy, MEMORY)), 3
    previous, held = np.zeros((n, 12)), np.zeros((n, 12))
    for step in range(12):
        x = told(n, MEMORY, seed=step)
        first = np.array([step in (0, 7), step == 0, step in (0, 5)])
        acts = first | np.array([step % 3 == 0, step % 2 == 0, True])
        previous = np.where(acts[:, None], held, previous)
        previous[first] = 0.0
        seen = np.concatenate([x[:, :89], previous.astype(np.float32)], axis=1)
        with torch.no_grad():
            held = policy(torch.tensor(seen)).numpy().astype(float)
        flags = np.stack([first, acts], axis=1).astype(np.float32)
        torque = run(module, np.concatenate([x, flags], axis=1))
        gains = MEMORY.gains()
        wanted = pd_torque(pd_target(held, gains), x[:, 101:113], x[:, 113:125], gains)
        np.testing.assert_allclose(torque, wanted, atol=2e-3, err_msg=f"step {step}")
    # Another batch begins with nothing.
    alone = np.concatenate([told(1, MEMORY), [[0.0, 1.0]]], axis=1).astype(np.float32)
    fresh = script(make_played(policy, MEMORY))
    np.testing.assert_array_equal(run(module, alone), run(fresh, alone))


def test_gradients_are_not_kept() -> None:
    module = script(make_played(actor(("previous_action",)), MEMORY))
    x = torch.from_numpy(np.concatenate([told(2, MEMORY), np.ones((2, 2))], 1).astype(np.float32))
    # sai_rl calls it with gradients on, five thousand times.
    assert not module(x).requires_grad and not module(x).requires_grad


@pytest.mark.parametrize(("mode", "steps"), [("pd", 7), ("torque", 3)])
def test_it_plays_as_the_worlds_of_training_do(mode: str, steps: int) -> None:
    features = ("egocentric", "clock", "previous_action")
    policy, settings = actor(features, reach=5.0), Settings(features=features, mode=mode)
    gains, seeds = settings.gains(), [0, 1, 2]
    slow = NativeWorld(game.TASKS, 3, gains, mode=mode, features=features, auto_reset=False)
    fast = NativeWorld(game.TASKS, 3, gains, mode="newton_metres", decimation=1, auto_reset=False)
    seen = slow.reset(0, env_seeds=seeds)
    fast.reset(0, env_seeds=seeds)
    target = actor_target("policy", policy, settings, None)
    players = [target.make_player() for _ in game.TASKS]
    for control in range(steps):  # later, what differs has grown too much, sooner with torques
        with torch.no_grad():
            result = slow.step(policy(torch.tensor(seen)).numpy())
        seen = result.observation
        for _ in range(10):
            frame = fast.frame()
            parts = [
                player(*official_view(type(frame)(*(p[k : k + 1] for p in frame)), task))
                for k, (task, player) in enumerate(zip(game.TASKS, players, strict=True))
            ]
            told = fast.step(np.concatenate(parts)).observation
        # Torques of float32 joints are not those of float64: what differs grows with time.
        np.testing.assert_allclose(told[:, :12], seen[:, :12], atol=1e-3, err_msg=f"{control}")
        np.testing.assert_allclose(told[:, 24:27], seen[:, 24:27], atol=1e-3, err_msg=f"{control}")
    assert np.abs(seen[:, :12]).max() > 0.2
    slow.close()
    fast.close()


def test_the_settings_of_a_config_are_its_gains() -> None:
    control = {"action_bounds": "joint_limits", "action_scale": 0.6, "kp": [90.0] * 6}
    config = Config.model_validate({"control": control})
    for ours, theirs in zip(settings_of(config).gains(), gains(config), strict=True):
        np.testing.assert_array_equal(ours, theirs)
