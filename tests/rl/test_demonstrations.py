"""Recorded episodes as transitions: of one step and of several, in the tasks' shares."""

from __future__ import annotations

import numpy as np
import pytest

from booster_ray.rl.demonstrations import Demonstrations, beside

STEPS, TASK = np.array([3, 5, 2]), np.array([0, 2, 0])
TERMINATED = np.array([True, False, True])
ROWS = int((STEPS + 1).sum())
FIRST = np.concatenate([[0], np.cumsum(STEPS + 1)[:-1]])


def made(**options: object) -> Demonstrations:
    """Row i observes i, does -i and is paid 10 i; what an episode's last row does is no action."""
    row = np.arange(ROWS, dtype=np.float32)
    action = np.where(np.isin(np.arange(ROWS), FIRST + STEPS), 999.0, -row).astype(np.float32)
    return Demonstrations(
        row[:, None], action[:, None], 10 * row, STEPS, TERMINATED, TASK, **options  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_transition_leads_to_the_row_behind_it() -> None:
    shown = made()
    assert len(shown) == 10
    batch = shown.sample((4, 200), np.random.default_rng(0))
    row = batch.observation[..., 0]
    assert set(row.ravel().astype(int)) == set(range(ROWS)) - set(FIRST + STEPS)
    np.testing.assert_array_equal(batch.action[..., 0], -row)
    np.testing.assert_array_equal(batch.next_observation[..., 0], row + 1)
    np.testing.assert_array_equal(batch.reward, 10 * row)
    lasts = (FIRST + STEPS - 1)[TERMINATED]
    np.testing.assert_array_equal(batch.terminated, np.isin(row, lasts).astype(np.float32))
    assert batch.discount is None


def test_each_task_has_its_share() -> None:
    batch = made(shares=[1.0, 1.0, 3.0]).sample((3, 100), np.random.default_rng(0))
    of_second = (batch.observation[..., 0] >= FIRST[1]) & (batch.observation[..., 0] < FIRST[2])
    assert of_second.sum(axis=1).tolist() == [75, 75, 75]


def test_several_steps_stop_at_an_end() -> None:
    batch = made(n_step=3, discount=0.5).sample((1, 400), np.random.default_rng(0))
    for i in range(400):
        row = int(batch.observation[0, i, 0])
        episode = int(np.searchsorted(FIRST, row, side="right")) - 1
        left = FIRST[episode] + STEPS[episode] - row
        count = min(3, left)
        total = sum(0.5**k * 10 * (row + k) for k in range(count))
        ends = bool(TERMINATED[episode] and count == left)
        assert batch.reward[0, i] == pytest.approx(total)
        assert batch.next_observation[0, i, 0] == row + count
        assert batch.terminated[0, i] == ends
        assert batch.discount is not None
        assert batch.discount[0, i] == pytest.approx(0.0 if ends else 0.5**count)


def test_beside_a_replays_batch() -> None:
    rng = np.random.default_rng(0)
    one, other = made().sample((2, 3), rng), made().sample((2, 5), rng)
    both = beside(one, other)
    assert both.observation.shape == (2, 8, 1) and both.discount is None
    np.testing.assert_array_equal(both.reward[:, 3:], other.reward)


def test_evenly_takes_from_every_episode() -> None:
    batch = made().evenly(5)
    assert len(batch.reward) == 5
    assert batch.observation[0, 0] == 0 and batch.observation[-1, 0] == ROWS - 2
    assert len(made().evenly(1000).reward) == 10


def test_arrays_that_do_not_fit() -> None:
    zeros = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="expected 13"):
        Demonstrations(zeros[:, None], zeros[:, None], zeros, STEPS, TERMINATED, TASK)
