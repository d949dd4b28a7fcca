"""Rewards in parts are weighed when they are sampled."""

from typing import Any

import numpy as np
import pytest

from booster_ray.rl.ddpg.replay import AnnealedReplay, stacked, with_discount
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.losses import Batch

LANES, OBS, ACT = 4, 3, 2
TASK = np.array([0, 1, 0, 1])
WEIGHTS = (0.5, 2.0, 1.0)


def transitions(step: int) -> tuple[Batch, np.ndarray]:
    rng = np.random.default_rng(step)
    batch = Batch(
        *(rng.standard_normal((LANES, size), np.float32) for size in (OBS, ACT)),
        np.full(LANES, np.nan, np.float32),
        rng.standard_normal((LANES, OBS), np.float32),
        (rng.random(LANES) < 0.2).astype(np.float32),
    )
    parts = rng.standard_normal((3, LANES)).astype(np.float32).T
    ended = (rng.random(LANES) < 0.2) & (batch.terminated == 0)
    return batch._replace(reward=parts), ended


def filled(steps: int, n_step: int) -> tuple[AnnealedReplay, Replay]:
    """The same transitions, in parts and already weighed."""
    options: dict[str, Any] = {"n_step": n_step, "discount": 0.9}
    ours = AnnealedReplay(LANES * 8, TASK, OBS, ACT, **options)
    plain = Replay(LANES * 8, TASK, OBS, ACT, **options)
    ours.weights = WEIGHTS
    for step in range(steps):
        batch, truncated = transitions(step)
        ours.add(batch, truncated)
        weighed = batch.reward @ np.asarray(WEIGHTS, np.float32)
        plain.add(batch._replace(reward=weighed), truncated)
    return ours, plain


def sampled(replay: Replay) -> Batch:
    return replay.sample((3, 20), np.random.default_rng(0))


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("steps", [5, 13])
def test_weighed_parts_are_the_weighed_reward(steps: int, n_step: int) -> None:
    for ours, theirs in zip(*map(sampled, filled(steps, n_step)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n_step", [1, 3])
def test_new_weights_hold_for_old_transitions(n_step: int) -> None:
    replay, _ = filled(13, n_step)
    before = sampled(replay).reward
    replay.weights = tuple(2 * w for w in WEIGHTS)
    np.testing.assert_allclose(sampled(replay).reward, 2 * before, rtol=1e-6)
    replay.weights = (0.0, 0.0, 0.0)
    assert not sampled(replay).reward.any()


def test_a_saved_replay_goes_on_bit_for_bit() -> None:
    replay, _ = filled(13, 3)
    again, _ = filled(2, 3)
    again.restore(replay.state())
    for one in (replay, again):
        one.add(*transitions(99))
    for ours, theirs in zip(sampled(again), sampled(replay), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_batches_of_one_and_of_several_steps_go_together() -> None:
    several, _ = filled(13, 3)
    one, _ = filled(13, 1)
    assert sampled(one).discount is None
    alike = with_discount(sampled(one), 0.9)
    assert alike.discount is not None
    assert set(np.unique(alike.discount)) == {np.float32(0.0), np.float32(0.9)}
    both = stacked(with_discount(sampled(several), 0.9), alike)
    assert all(part.shape[:2] == (3, 40) for part in both[:6])
    np.testing.assert_array_equal(both.reward[:, 20:], sampled(one).reward)
