"""The learner is right outside our own worlds."""

import gymnasium
import numpy as np
import pytest

from booster_ray.config import SAC
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch

STEPS = 10_000
CONFIG = SAC(
    actor_hidden=(64, 64),
    critic_hidden=(64, 64),
    actor_lr=1e-3,
    critic_lr=1e-3,
    alpha_lr=1e-3,
    discount=0.98,
    tau=0.01,
    batch_size=128,
    init_alpha=0.5,
    target_entropy=-1.0,
    replay_size=STEPS,
    learning_starts=500,
)


def train(sac: Sac, seed: int) -> SacState:
    env = gymnasium.make("Pendulum-v1")
    state, rng = sac.init(seed), np.random.default_rng(seed)
    replay = Replay(CONFIG.replay_size, np.zeros(1, np.int32), 3, 1)
    observation, _ = env.reset(seed=seed)
    for step in range(STEPS):
        state, action = sac.act(state, observation[None])
        action = np.asarray(action)
        following, reward, terminated, truncated, _ = env.step(2 * action[0])
        reward, terminated = np.float32([reward]), np.float32([terminated])
        replay.add(Batch(observation[None], action, reward, following[None], terminated))
        observation = env.reset()[0] if truncated else following
        if step >= CONFIG.learning_starts:
            state, _ = sac.update(state, replay.sample((1, CONFIG.batch_size), rng))
    return state


def mean_return(sac: Sac, state: SacState, episodes: int = 20) -> float:
    env = gymnasium.make("Pendulum-v1")
    total = 0.0
    for seed in range(episodes):
        observation, _ = env.reset(seed=1000 + seed)
        truncated = False
        while not truncated:
            action = np.asarray(sac.act_mean(state, observation[None]))[0]
            observation, reward, _, truncated, _ = env.step(2 * action)
            total += float(reward)
    return total / episodes


@pytest.mark.slow
def test_solves_pendulum_in_three_seeds_of_three() -> None:
    """Random play returns about -1200, a perfect swing-up about -150."""
    sac = Sac(CONFIG, 3, 1)
    returns = [mean_return(sac, train(sac, seed)) for seed in range(3)]
    print("mean returns:", *(f"{r:.1f}" for r in returns))
    assert min(returns) > -200, returns
