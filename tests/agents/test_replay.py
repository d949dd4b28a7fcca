import numpy as np
import pytest

from booster_ray.agents.sac.losses import Batch
from booster_ray.agents.sac.replay import Replay

OBS, ACT = 3, 2
TASK = np.array([0, 1, 2, 0, 1])


def insertion(step: int, task: np.ndarray = TASK) -> Batch:
    """Transitions that say where they came from: reward is step, action[0] the lane's task."""
    lanes = len(task)
    observation = np.full((lanes, OBS), step, np.float32) + np.arange(lanes)[:, None] / 100
    action = np.tile(np.float32(task)[:, None], (1, ACT))
    reward, terminated = np.full(lanes, step, np.float32), np.full(lanes, step % 2, np.float32)
    return Batch(observation, action, reward, observation + 1, terminated)


def filled(steps: int, capacity: int = 20, task: np.ndarray = TASK) -> Replay:
    replay = Replay(capacity, task, OBS, ACT)
    for step in range(steps):
        replay.add(insertion(step, task))
    return replay


@pytest.mark.parametrize(
    ("steps", "kept"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (11, [7, 8, 9, 10])]
)
def test_ring_keeps_the_newest(steps: int, kept: list[int]) -> None:
    replay = filled(steps, capacity=24)  # 4 insertions of 5 lanes, 4 left over
    assert len(replay) == 5 * len(kept)
    batch = replay.sample((4, 100), np.random.default_rng(0))
    assert sorted(np.unique(batch.reward)) == kept
    lane = np.rint(batch.observation[..., 0] % 1 * 100)
    assert sorted(np.unique(lane)) == [0, 1, 2, 3, 4]


def test_transitions_stay_whole() -> None:
    batch = filled(9).sample((3, 50), np.random.default_rng(0))
    assert batch.observation.shape == (3, 50, OBS)
    assert batch.action.shape == (3, 50, ACT)
    assert batch.reward.shape == batch.terminated.shape == (3, 50)
    assert all(part.dtype == np.float32 for part in batch)
    np.testing.assert_allclose(batch.next_observation, batch.observation + 1, rtol=1e-6)
    np.testing.assert_array_equal(np.floor(batch.observation[..., 0]), batch.reward)
    np.testing.assert_array_equal(batch.terminated, batch.reward % 2)
    lane = np.rint(batch.observation[..., 0] % 1 * 100).astype(int)
    np.testing.assert_array_equal(batch.action[..., 0], TASK[lane])


@pytest.mark.parametrize(
    ("task", "size", "shares"),
    [
        ([0, 1, 2], 30, {0: 10, 1: 10, 2: 10}),
        ([0, 0, 0, 0, 0, 1], 32, {0: 16, 1: 16}),  # the rare task is not outvoted
        ([2, 0, 2, 2], 10, {0: 5, 2: 5}),
        ([0, 1, 2, 0, 1], 32, {0: 11, 1: 11, 2: 10}),
        ([1, 1], 8, {1: 8}),
    ],
)
def test_every_batch_gives_each_task_its_share(
    task: list[int], size: int, shares: dict[int, int]
) -> None:
    batch = filled(7, task=np.array(task)).sample((20, size), np.random.default_rng(0))
    for update in batch.action[..., 0]:
        names, counts = np.unique(update, return_counts=True)
        assert dict(zip(names, counts, strict=True)) == shares


def test_lanes_and_steps_of_a_task_are_drawn_evenly() -> None:
    batch = filled(4, task=np.array([0, 0, 1])).sample((1, 40_000), np.random.default_rng(0))
    lane = np.rint(batch.observation[..., 0] % 1 * 100)
    # Task 0 has 2 lanes x 4 steps for its 20,000 draws: 2500 ± 47 each; 250 is 5 sigma.
    for which in (0, 1):
        for step in range(4):
            assert abs(np.sum((lane == which) & (batch.reward == step)) - 2500) < 250


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 11])
def test_restore_goes_on_bit_for_bit(steps: int) -> None:
    replay = filled(steps)
    state = replay.state()
    other = filled(8)  # what was there before must not shine through
    other.restore(state)
    for step in range(steps, steps + 6):
        assert len(other) == len(replay)
        for mine, theirs in zip(
            replay.sample((3, 16), np.random.default_rng(step)),
            other.sample((3, 16), np.random.default_rng(step)),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)
        replay.add(insertion(step))
        other.add(insertion(step))


def test_a_captured_state_does_not_change_with_the_buffer() -> None:
    replay = filled(4)
    state = replay.state()
    before = {k: np.copy(v) for k, v in state.items()}
    replay.add(insertion(9))
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)
    other = filled(0)
    other.restore(state)
    other.add(insertion(10))
    np.testing.assert_array_equal(state["reward"], before["reward"])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="replay of 4 cannot hold one step of 5 worlds"):
        filled(0, capacity=4)
    with pytest.raises(ValueError, match="empty"):
        filled(0).sample((1, 4), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("capacity", "task", "found"), [(25, TASK, "5 x 5"), (16, np.array([0, 1, 2, 0]), "4 x 4")]
)
def test_a_buffer_of_another_size_is_refused(capacity: int, task: np.ndarray, found: str) -> None:
    replay = filled(2)
    with pytest.raises(ValueError, match=rf"holds {found} transitions; this one 4 x 5"):
        replay.restore(filled(2, capacity, task).state())
    assert len(replay) == 10
