from pathlib import Path

import jax
import numpy as np
import pytest

from booster_ray.rl.ddpg.replay import AnnealedReplay
from booster_ray.rl.replay import Replay, newest
from booster_ray.rl.sac.losses import Batch
from booster_ray.store.checkpoint import CheckpointError, load
from booster_ray.store.checkpoint.store import segments
from booster_ray.store.writer import Writer

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
    assert all(part.dtype == np.float32 for part in batch if part is not None)
    assert batch.discount is None  # of one step: the learner's own
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
        mine, theirs = (r.sample((3, 16), np.random.default_rng(step)) for r in (replay, other))
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)
        replay.add(insertion(step))
        other.add(insertion(step))


def test_a_captured_state_is_as_it_was_taken_or_refused() -> None:
    replay = filled(3)  # of 4
    state = replay.state()
    before = np.asarray(state["rows"])
    replay.add(insertion(3))
    np.testing.assert_array_equal(np.asarray(state["rows"]), before)
    other = filled(0)
    other.restore(state)
    other.add(insertion(9))
    np.testing.assert_array_equal(np.asarray(state["rows"]), before)
    replay.add(insertion(4))  # in the place of the first
    with pytest.raises(LookupError, match="insertions 0 to 3 are not in the replay any more"):
        np.asarray(state["rows"])


@pytest.mark.parametrize("kind", [Replay, AnnealedReplay])
def test_checkpoints_write_what_is_new_and_restore_bit_for_bit(
    kind: type[Replay], tmp_path: Path
) -> None:
    """Saved every 1 to 6 insertions into a ring of 4."""
    args = (24, TASK, OBS, ACT)
    replay = kind(*args)
    writer = Writer(tmp_path, keep=1)
    step = 0
    for count in (0, 1, 2, 1, 6, 4, 3):
        for _ in range(count):
            batch, ended = insertion(step), np.zeros(len(TASK), bool)
            if isinstance(replay, AnnealedReplay):
                batch = batch._replace(reward=np.outer(batch.reward, (1, 2, 3)))
            replay.add(batch, ended)
            step += 1
        writer.save(f"step_{step}", lambda: {"replay": replay.state()}, {})
        writer.finish()
        found = load(tmp_path / f"step_{step}")[0]["replay"]
        written = segments(tmp_path / f"step_{step}")["replay/rows"]
        assert sum(s["stop"] - s["start"] for s in written) >= min(step, 4)
        assert not written or written[-1]["stop"] - written[-1]["start"] == min(count, 4)
        other = kind(*args)
        other.restore(found)
        np.testing.assert_array_equal(other._data, replay._data)
        assert (other._next, other._filled, len(other)) == (
            replay._next, replay._filled, len(replay),
        )  # fmt: skip
        if isinstance(replay, AnnealedReplay) and isinstance(other, AnnealedReplay):
            np.testing.assert_array_equal(other._parts, replay._parts)
    writer.close()


def test_the_newest_of_a_saved_replay() -> None:
    state = newest(filled(6).state(), 11)  # 2 insertions of 5, of the 4 that there are
    assert (state["filled"], state["capacity"]) == (2, 2)
    replay = Replay(10, TASK, OBS, ACT)
    replay.restore(state)
    assert {*np.unique(replay.sample((1, 64), np.random.default_rng(0)).reward)} == {4, 5}
    assert newest(filled(6).state(), 1)["filled"] == 1


def test_a_replay_of_an_older_release_is_refused() -> None:
    fields = {"next": 1, "filled": 1, "rows": 4, "reward": np.zeros((1, 5))}
    with pytest.raises(CheckpointError, match="saved by an older release"):
        filled(0).restore(fields)


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


@pytest.mark.parametrize(
    ("shares", "expected"), [((2.0, 1.0, 1.0), [16, 8, 8]), ((1.0, 3.0, 1.0), [7, 19, 6])]
)
def test_stated_shares(shares: tuple[float, ...], expected: list[int]) -> None:
    replay = Replay(20, TASK, OBS, ACT, shares=shares)
    replay.add(insertion(0))
    for update in replay.sample((10, 32), np.random.default_rng(0)).action[..., 0]:
        assert np.unique(update, return_counts=True)[1].tolist() == expected


# --- several steps ---

LANES, GAMMA = 4, 0.9


class Story:
    """What worlds told, step by step: episodes of random length, ended by game or by time."""

    def __init__(self, steps: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.reward = rng.normal(size=(steps, LANES)).astype(np.float32)
        self.terminated = rng.random((steps, LANES)) < 0.15
        self.truncated = ~self.terminated & (rng.random((steps, LANES)) < 0.15)
        # The true next observation is unique to a step: it tells which one a sample bootstraps at.
        self.place = np.arange(steps * LANES, dtype=np.float32).reshape(steps, LANES)

    def batch(self, t: int) -> Batch:
        here = np.repeat(self.place[t][:, None], OBS, axis=1)
        action = np.zeros((LANES, ACT), np.float32)
        return Batch(here, action, self.reward[t], here + 0.5, np.float32(self.terminated[t]))

    def expected(self, t: int, lane: int, n: int, known: int) -> tuple[float, float, float]:
        """Return, factor and place of the value that follows, of a window of at most n steps."""
        value, m = 0.0, 0
        while True:
            now = t + m
            value += GAMMA**m * self.reward[now, lane]
            m += 1
            over = self.terminated[now, lane] or self.truncated[now, lane]
            if over or m == n or now == known - 1:
                stop = self.terminated[now, lane]
                return value, GAMMA**m * (1 - stop), self.place[now, lane] + 0.5


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("known", [1, 2, 5, 8, 9, 13, 24])
def test_steps_are_folded_within_episodes_and_around_the_ring(n: int, known: int) -> None:
    story, rows = Story(known, seed=n), 8
    replay = Replay(rows * LANES, np.array([0, 1, 0, 1]), OBS, ACT, n_step=n, discount=GAMMA)
    for t in range(known):
        replay.add(story.batch(t), story.truncated[t])
    found = replay.sample((40, 32), np.random.default_rng(0))
    places = found.observation[..., 0].astype(int)
    assert {*np.unique(places // LANES)} == set(range(max(0, known - rows), known))
    for index, place in np.ndenumerate(places):
        value, factor, end = story.expected(*divmod(int(place), LANES), n, known)
        assert found.reward[index] == pytest.approx(value, rel=1e-5, abs=1e-5)
        assert found.discount[index] == pytest.approx(factor, rel=1e-5)
        assert np.all(found.next_observation[index] == end)
        assert (found.terminated[index] > 0) == (factor == 0)
    assert all(part.dtype == np.float32 for part in found[:6])


def test_several_steps_restore_bit_for_bit() -> None:
    story = Story(13, seed=0)
    args = (8 * LANES, np.zeros(LANES, int), OBS, ACT)
    replays = [Replay(*args, n_step=3, discount=GAMMA) for _ in range(2)]
    for t in range(11):
        replays[0].add(story.batch(t), story.truncated[t])
    replays[1].restore(replays[0].state())
    for t in (11, 12):
        first, second = (r.sample((3, 16), np.random.default_rng(t)) for r in replays)
        jax.tree.map(np.testing.assert_array_equal, first, second)
        for replay in replays:
            replay.add(story.batch(t), story.truncated[t])


def test_several_steps_must_know_truncations() -> None:
    args = (8 * LANES, np.zeros(LANES, int), OBS, ACT)
    story, replay, plain = Story(1, 0), Replay(*args, n_step=2), Replay(*args)
    with pytest.raises(ValueError, match="replay of 2 steps must be told what was truncated"):
        replay.add(story.batch(0))
    plain.add(story.batch(0), story.truncated[0])
    with pytest.raises(ValueError, match="saved replay lacks truncated; it was saved with n_step"):
        replay.restore(plain.state())
    with pytest.raises(ValueError, match="n_step is 0; expected at least 1"):
        Replay(*args, n_step=0)
