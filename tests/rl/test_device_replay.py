"""The device's ring against the host's, and against what was put in."""

import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.rl.replay import Replay
from booster_ray.rl.sac import device_replay
from booster_ray.rl.sac.device_replay import DeviceReplay, Rings, Step
from booster_ray.rl.sac.losses import Batch
from booster_ray.store.checkpoint import load
from booster_ray.store.checkpoint.store import segments
from booster_ray.store.writer import Writer

OBS, ACT, LANES, GAMMA = 3, 2, 6, 0.9


def steps(count: int, seed: int = 0) -> list[Step]:
    """Worlds that draw a task at each reset; place, unique, stands in observation and action."""
    rng = np.random.default_rng(seed)
    task, told = rng.integers(0, 3, LANES), []
    for t in range(count):
        place = np.float32(np.arange(LANES) + t * LANES)[:, None]
        terminated = rng.random(LANES) < 0.1
        truncated = ~terminated & (rng.random(LANES) < 0.1)
        batch = Batch(
            observation=np.tile(place, OBS),
            action=np.tile(place, ACT) + 0.25,
            reward=rng.normal(size=LANES).astype(np.float32),
            next_observation=np.tile(place, OBS) + 0.5,
            terminated=np.float32(terminated),
        )
        told.append(Step(batch, truncated, task.astype(np.int32)))
        task = np.where(terminated | truncated, rng.integers(0, 3, LANES), task)
    return told


def filled(replay: DeviceReplay, told: list[Step]) -> Rings:
    """All steps inserted by one scan."""
    stacked = jax.tree.map(lambda *parts: jnp.stack([jnp.asarray(p) for p in parts]), *told)
    insert = lambda rings, step: (replay.insert(rings, step), None)  # noqa: E731
    return jax.jit(lambda s: jax.lax.scan(insert, replay.init(), s)[0])(stacked)


@cache
def inserting(replay: DeviceReplay) -> Callable[[Rings, Step], Rings]:
    """Its insertion, which takes the rings' memory over."""
    return jax.jit(replay.insert, donate_argnums=0)


@cache
def sampling(replay: DeviceReplay) -> Callable[[Rings, jax.Array, tuple[int, int]], Batch]:
    return jax.jit(replay.sample, static_argnums=2)


@cache
def of(capacity: int, tasks: tuple[int, ...], n_step: int) -> DeviceReplay:
    """A replay, whose programs serve all tests that name the same one."""
    return DeviceReplay(capacity, tasks, LANES, OBS, ACT, n_step=n_step, discount=GAMMA)


def sampled(replay: DeviceReplay, rings: Rings, shape: tuple[int, int], seed: int = 0) -> Batch:
    return jax.tree.map(np.asarray, sampling(replay)(rings, jax.random.key(seed), shape))


def test_each_task_keeps_its_newest() -> None:
    told, room = steps(40), 20
    batch = sampled(*((r := DeviceReplay(3 * room, (0, 1, 2), LANES, OBS, ACT)), filled(r, told)),
                    (40, 96))  # fmt: skip
    of_task = defaultdict(list)
    for step in told:
        for place, task in zip(step.batch.observation[:, 0], step.task, strict=True):
            of_task[int(task)].append(place)
    kept = {place for places in of_task.values() for place in places[-room:]}
    assert {*batch.observation[..., 0].ravel()} == kept
    np.testing.assert_array_equal(batch.action[..., 0], batch.observation[..., 0] + 0.25)
    np.testing.assert_array_equal(batch.next_observation, batch.observation + 0.5)
    everything = jax.tree.map(lambda *parts: np.concatenate(parts), *told).batch
    where = batch.observation[..., 0].astype(int)
    np.testing.assert_array_equal(batch.reward, everything.reward[where])
    np.testing.assert_array_equal(batch.terminated, everything.terminated[where])
    assert batch.discount is None


@pytest.mark.parametrize(
    ("shares", "expected"), [(None, [11, 11, 10]), ((2.0, 1.0, 1.0), [16, 8, 8])]
)
def test_every_batch_gives_each_task_its_share(
    shares: tuple[float, ...] | None, expected: list[int]
) -> None:
    told = steps(30)
    replay = DeviceReplay(180, (0, 1, 2), LANES, OBS, ACT, shares=shares)
    batch = sampled(replay, filled(replay, told), (20, 32))
    tasks = np.concatenate([step.task for step in told])
    for update in batch.observation[..., 0].astype(int):
        assert np.bincount(tasks[update], minlength=3).tolist() == expected


def test_a_task_without_transitions_leaves_its_share_to_others() -> None:
    told = [step._replace(task=np.full(LANES, 2, np.int32)) for step in steps(4)]
    replay = DeviceReplay(180, (0, 2), LANES, OBS, ACT)
    batch = sampled(replay, filled(replay, told), (2, 300))
    assert {*batch.observation[..., 0].ravel()} == set(range(4 * LANES))
    assert not sampled(replay, replay.init(), (1, 8)).observation.any()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("count", [2, 9, 25])
def test_same_transitions_as_the_hosts(n: int, count: int) -> None:
    """Where tasks do not change both hold the same, but for what the newest steps began."""
    tasks = np.array([0, 1, 0, 1, 0, 1])
    told = [step._replace(task=tasks.astype(np.int32)) for step in steps(count)]
    host = Replay(12 * LANES, tasks, OBS, ACT, n_step=n, discount=GAMMA)
    device = of(12 * LANES, (0, 1), n)
    rings = device.init()
    for step in told:
        host.add(step.batch, step.truncated)
        rings = inserting(device)(rings, jax.tree.map(jnp.asarray, step))
    both = (
        host.sample((60, 60), np.random.default_rng(0)),
        sampled(device, rings, (60, 60)),
    )
    hosts, devices = ({int(t.observation[0]): t for t in each(batch)} for batch in both)
    last = (count - n + 1) * LANES  # the first place that is not folded yet
    expected = set(range(max(0, count - 12 - (n - 1)) * LANES, last))
    if count < n:
        assert {*devices} == {0}  # zeros of an empty ring
        return
    assert {*devices} == expected
    assert {*hosts} >= {p for p in expected if p >= (count - 12) * LANES}
    for place in {*hosts} & expected:
        jax.tree.map(
            lambda mine, theirs: np.testing.assert_allclose(mine, theirs, rtol=1e-6),
            devices[place],
            hosts[place],
        )


def each(batch: Batch) -> list[Batch]:
    flat = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), batch)
    return [jax.tree.map(lambda part, i=i: part[i], flat) for i in range(len(flat.reward))]


def test_going_on_from_a_saved_state_changes_no_bit() -> None:
    told = steps(20)
    replay = DeviceReplay(60, (0, 1, 2), LANES, OBS, ACT, n_step=3, discount=GAMMA)
    insert = jax.jit(replay.insert)
    through = halfway = replay.init()
    for i, step in enumerate(told):
        through = insert(through, step)
        if i == 10:
            leaves, structure = jax.tree.flatten(through)
            halfway = jax.tree.unflatten(structure, [jnp.asarray(np.array(x)) for x in leaves])
        elif i > 10:
            halfway = insert(halfway, step)
    jax.tree.map(np.testing.assert_array_equal, through, halfway)


def test_a_donated_insert_copies_nothing() -> None:
    replay = DeviceReplay(600, (0, 1, 2), LANES, OBS, ACT)
    insert = jax.jit(replay.insert, donate_argnums=0)
    rings = insert(replay.init(), steps(1)[0])
    before = rings.rows.unsafe_buffer_pointer()
    assert insert(rings, steps(1)[0]).rows.unsafe_buffer_pointer() == before


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="replay of 17 leaves 5 for each of 3 tasks; expected at"):
        DeviceReplay(17, (0, 1, 2), LANES, OBS, ACT)
    with pytest.raises(ValueError, match="n_step is 0; expected at least 1"):
        DeviceReplay(60, (0, 1, 2), LANES, OBS, ACT, n_step=0)


# --- checkpoints ---


@pytest.mark.parametrize("piece", [1, 7, 8192])
@pytest.mark.parametrize("n_step", [1, 3])
def test_checkpoints_write_what_is_new_and_restore_bit_for_bit(
    n_step: int, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rings of 10, saved before they are full, when one wraps, and after several laps."""
    monkeypatch.setattr(device_replay, "READ_ROWS", piece)
    replay = of(30, (0, 1, 2), n_step)
    told = steps(40)
    insert = inserting(replay)
    rings, at = replay.init(), 0
    writer = Writer(tmp_path, keep=1)
    for turn, count in enumerate((0, 2, 2, 3, 20, 1, 0, 12)):
        before = rings.laps * 10 + rings.next
        for step in told[at : at + count]:
            rings = insert(rings, jax.tree.map(jnp.asarray, step))
        at += count
        name = f"step_{turn}"
        writer.save(name, lambda: {"replay": replay.state(rings)}, {})  # noqa: B023
        writer.finish()
        found = load(tmp_path / name)[0]["replay"]
        for one, other in zip(
            jax.tree.leaves(replay.restored(replay.init(), found)),
            jax.tree.leaves(rings),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        listed = segments(tmp_path / name)
        for ring, new in enumerate((rings.laps * 10 + rings.next - before).tolist()):
            last = listed[f"replay/logs/{ring}"][-1:]
            assert not new or last[0]["stop"] - last[0]["start"] == min(new, 10)
    assert min(rings.laps) > 1
    writer.close()


def test_a_restored_replay_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 MB, of which neither the device nor the host may have a second copy meanwhile."""
    replay = DeviceReplay(262_144, (0,), LANES, 89, 12)
    rings = replay.init()
    width = rings.rows.shape[1]
    log = np.random.default_rng(0).random((262_144, width), np.float32)
    assert 200e6 < log.nbytes < 210e6
    saved = {**jax.device_get(rings._asdict()), "logs": {"0": log}, "recent": {}}
    del saved["rows"]
    saved |= {"laps": np.array([1], np.int32), "filled": np.array([262_144], np.int32)}
    put, held = device_replay._put, []

    def counted(rows: jax.Array, *arguments: Any) -> jax.Array:
        rows = put(rows, *arguments)
        held.append(sum(array.nbytes for array in jax.live_arrays() if array.nbytes > 1e6))
        return rows

    monkeypatch.setattr(device_replay, "_put", counted)
    tracemalloc.start()
    try:
        rings = replay.restored(rings, saved)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(rings.rows, log)
    assert len(held) == 32 and max(held) <= 1.1 * log.nbytes
    assert peak <= 0.2 * log.nbytes


def test_a_state_is_refused_once_its_rings_are_gone() -> None:
    replay = DeviceReplay(30, (0, 1, 2), LANES, OBS, ACT)
    told = steps(2)
    rings = filled(replay, told)
    state = replay.state(rings)
    jax.jit(replay.insert, donate_argnums=0)(rings, jax.tree.map(jnp.asarray, told[0]))
    with pytest.raises(LookupError, match="the replay has gone on"):
        np.asarray(state["logs"]["0"])


def test_rings_of_other_sizes_are_refused() -> None:
    saved = DeviceReplay(30, (0, 1, 2), LANES, OBS, ACT)
    rings = filled(saved, steps(20))
    for other in (
        DeviceReplay(30, (0, 1), LANES, OBS, ACT),
        DeviceReplay(36, (0, 1, 2), LANES, OBS, ACT),
        DeviceReplay(30, (0, 1, 2), LANES, OBS + 1, ACT),
    ):
        with pytest.raises(ValueError, match=r"saved replay holds .*; this one"):
            other.restored(other.init(), saved.state(rings))
