"""Metrics of the reward terms, from records of episodes on the host and on the device."""

import jax.numpy as jnp
import numpy as np

from booster_ray.envs.mjx import Outcome
from booster_ray.evaluate.episodes import reward_metrics
from booster_ray.train.collector import EPISODES_AVERAGED
from booster_ray.train.device_collector import AVERAGED, Recent, _records, _remember

EARLIER = {"env": 0, "task": 0, "return": 5.0, "seconds": 1.0}
"""A record of a release that kept no sums."""


def test_means_of_all_tasks_and_of_each() -> None:
    episodes = [
        EARLIER,
        EARLIER | {"reward.alive": 1.0, "reward.fall": -5.0},
        EARLIER | {"reward.alive": 3.0, "reward.fall": 0.0},
        EARLIER | {"task": 2, "reward.alive": 8.0, "reward.fall": -1.0},
    ]
    assert reward_metrics(episodes) == {
        "reward/alive": 4.0,
        "reward/alive/goalie": 2.0,
        "reward/alive/kick_to_target": 8.0,
        "reward/fall": -2.0,
        "reward/fall/goalie": -2.5,
        "reward/fall/kick_to_target": -1.0,
    }
    assert reward_metrics([EARLIER]) == reward_metrics([]) == {}


def test_the_device_remembers_the_newest() -> None:
    recent = Recent(
        values=jnp.zeros((EPISODES_AVERAGED, len(AVERAGED))),
        task=jnp.zeros(EPISODES_AVERAGED, jnp.int32),
        term_sums={"alive": jnp.full(EPISODES_AVERAGED, jnp.nan)},
        next=jnp.int32(2),
        filled=jnp.int32(2),
        lost=jnp.int32(1),
        dropped=jnp.float32(0),
    )
    zero = jnp.zeros(3)
    told = {"return": zero, "seconds": zero, "reward.alive": jnp.array([1.0, 7.0, 4.0])}
    outcome = Outcome(
        *[zero] * 5,
        recorded=jnp.array([True, False, True]),
        episodes=told | {"task": jnp.array([2, 0, 1]), "lost": jnp.array([0.0, 1.0, 1.0])},
        dropped=jnp.float32(3),
    )
    recent = _remember(recent, outcome)
    # The first two were restored from a checkpoint that told nothing of terms.
    plain = {"return": 0.0, "seconds": 0.0}
    assert _records(recent) == [
        {"task": 0} | plain,
        {"task": 0} | plain,
        {"task": 2, "reward.alive": 1.0} | plain,
        {"task": 1, "reward.alive": 4.0} | plain,
    ]
    assert np.isnan(recent.term_sums["alive"][4:]).all()
    # The second world's episode was not recorded.
    assert int(recent.lost) == 2 and float(recent.dropped) == 3
