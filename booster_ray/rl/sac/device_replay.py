"""A ring buffer of transitions in device memory, for use inside ``jit`` and ``lax.scan``.

For worlds that draw a new task at each reset: every task has a ring of its own, so that none
crowds out another, and a batch holds each in its stated share. Transitions of several steps are
folded when they are inserted; so what began in the newest ``n_step - 1`` steps is not sampled yet,
where the host's :class:`~booster_ray.rl.replay.Replay` folds the steps that there are.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.rl.nstep import fold
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.shares import apportion, task_weights
from booster_ray.store.checkpoint.log import Log

READ_ROWS = 8192
"""Transitions that come to the host at a time; of one size, so that the copy compiles once."""


class Step(NamedTuple):
    """What one control step of all lanes told; fields as in ``Batch``, each (lanes, ...)."""

    batch: Batch
    truncated: jax.Array
    """bool (lanes,): time ended the episode."""
    task: jax.Array
    """int32 (lanes,): task number."""


class Rings(NamedTuple):
    """Everything that changes. Donate it to a jitted insert, and nothing is copied."""

    rows: jax.Array
    """float32 (tasks * capacity, width): packed transitions, one ring after the other."""
    next: jax.Array
    """int32 (tasks,): where each ring writes."""
    laps: jax.Array
    """int32 (tasks,): how often each ring has been filled to its end."""
    filled: jax.Array
    """int32 (tasks,)."""
    recent: Step | None
    """The ``n_step - 1`` newest steps, oldest first, each field (n_step - 1, lanes, ...)."""
    seen: jax.Array
    """int32 (): steps inserted, counted up to ``n_step - 1``."""


class Numbers(NamedTuple):
    """What may differ between replays of one structure."""

    discount: jax.Array
    """float32 (): γ per step."""
    rings: jax.Array
    """int32 (batch,): the ring that each transition of a batch is drawn from."""


class DeviceReplay:
    """Sizes and pure functions; the state is a :class:`Rings`.

    Args:
        capacity: transitions kept, divided evenly among the tasks.
        tasks: distinct task numbers that lanes play.
        lanes: transitions inserted at a time.
        observation_size: numbers in an observation.
        action_size: numbers in an action.
        n_step: steps folded into a transition, see :func:`nstep.fold`.
        discount: γ per step; needed where ``n_step`` is above 1.
        shares: weight of each task, indexed by task number; None: equal ones.

    Raises:
        ValueError: a task's part of the capacity cannot hold one insertion, ``n_step`` below 1,
            or shares that :func:`shares.task_weights` refuses.
    """

    def __init__(
        self,
        capacity: int,
        tasks: Sequence[int],
        lanes: int,
        observation_size: int,
        action_size: int,
        *,
        n_step: int = 1,
        discount: float = 1.0,
        shares: Sequence[float] | None = None,
    ) -> None:
        self._capacity = capacity // len(tasks)
        if self._capacity < lanes:
            raise ValueError(
                f"replay of {capacity} leaves {self._capacity} for each of {len(tasks)} tasks; "
                f"expected at least the {lanes} transitions of one step"
            )
        if n_step < 1:
            raise ValueError(f"n_step is {n_step}; expected at least 1")
        self._weights = task_weights(tasks, shares)
        self._from: jax.Array | None = None
        self._ring_of = np.zeros(max(tasks) + 1, np.int32)
        self._ring_of[list(tasks)] = np.arange(len(tasks))
        self._rings, self._lanes, self._n_step = len(tasks), lanes, n_step
        self._discount: Any = discount
        sizes = [observation_size, action_size, 1, observation_size, 1, 1]
        self._sizes = sizes if n_step > 1 else sizes[:-1]
        self.structure: Hashable = (capacity, tuple(tasks), lanes, tuple(sizes), n_step)
        """What replays share that share their compiled functions."""

    def numbers(self, batch: int) -> Numbers:
        """Its numbers, for batches of one size; on the device."""
        return Numbers(jnp.float32(self._discount), jnp.asarray(self._apportioned(batch)))

    def bound(self, numbers: Numbers) -> DeviceReplay:
        """This replay with other numbers, which may be traced; it gives batches of their size."""
        other = copy.copy(self)
        other._discount, other._from = numbers
        return other

    def _apportioned(self, batch: int) -> np.ndarray:
        """int32 (batch,): rings, each in its task's share."""
        counts = apportion(batch, self._weights)
        return np.repeat(np.arange(self._rings, dtype=np.int32), counts)

    def init(self) -> Rings:
        """Empty rings; ``capacity`` times the width of a transition in float32."""
        observation, action = self._sizes[:2]
        lead = (self._n_step - 1, self._lanes)
        nothing = Batch(
            observation=jnp.zeros((*lead, observation)),
            action=jnp.zeros((*lead, action)),
            reward=jnp.zeros(lead),
            next_observation=jnp.zeros((*lead, observation)),
            terminated=jnp.zeros(lead),
        )
        recent = Step(nothing, jnp.zeros(lead, bool), jnp.zeros(lead, jnp.int32))
        return Rings(
            rows=jnp.zeros((self._rings * self._capacity, sum(self._sizes))),
            next=jnp.zeros(self._rings, jnp.int32),
            laps=jnp.zeros(self._rings, jnp.int32),
            filled=jnp.zeros(self._rings, jnp.int32),
            recent=recent if self._n_step > 1 else None,
            seen=jnp.int32(0),
        )

    def insert(self, rings: Rings, step: Step) -> Rings:
        """Insert one transition a lane, of one step; the oldest of its task goes."""
        if rings.recent is None:
            return self._write(rings, step.batch, step.task, jnp.full(self._lanes, True))
        window = jax.tree.map(
            lambda old, new: jnp.concatenate([old, jnp.asarray(new, old.dtype)[None]]),
            rings.recent,
            step,
        )
        whole = jnp.broadcast_to(rings.seen >= self._n_step - 1, self._lanes)
        rings = self._write(rings, self._fold(window), window.task[0], whole)
        return rings._replace(
            recent=jax.tree.map(lambda part: part[1:], window),
            seen=jnp.minimum(rings.seen + 1, self._n_step - 1),
        )

    def _fold(self, window: Step) -> Batch:
        """The transitions of several steps that begin with a window's first. (lanes, ...)."""
        steps = window.batch
        ended = (steps.terminated > 0) | window.truncated
        total, follow, last = fold(steps.reward, steps.terminated, ended, self._discount)
        lanes = jnp.arange(self._lanes)
        return Batch(
            observation=steps.observation[0],
            action=steps.action[0],
            reward=total,
            next_observation=steps.next_observation[last, lanes],
            terminated=steps.terminated[last, lanes],
            discount=follow,
        )

    def _write(self, rings: Rings, batch: Batch, task: jax.Array, wanted: jax.Array) -> Rings:
        """Append the ``wanted`` transitions, each to its task's ring."""
        ring = jnp.asarray(self._ring_of)[task]
        mine = (ring[:, None] == jnp.arange(self._rings)) & wanted[:, None]
        turn = jnp.cumsum(mine, axis=0, dtype=jnp.int32) - 1  # among those of the same ring
        place = (rings.next + turn) % self._capacity
        flat = ring * self._capacity + jnp.take_along_axis(place, ring[:, None], axis=1)[:, 0]
        # Beyond the end: dropped.
        flat = jnp.where(wanted, flat, len(rings.rows))
        fields = [part for part in batch if part is not None]
        packed = jnp.concatenate([jnp.reshape(f, (self._lanes, -1)) for f in fields], axis=1)
        count = jnp.sum(mine, axis=0, dtype=jnp.int32)
        return rings._replace(
            rows=rings.rows.at[flat].set(packed, mode="drop"),
            next=(rings.next + count) % self._capacity,
            laps=rings.laps + (rings.next + count) // self._capacity,
            filled=jnp.minimum(rings.filled + count, self._capacity),
        )

    def sample(self, rings: Rings, key: jax.Array, shape: tuple[int, int]) -> Batch:
        """``shape`` = (updates, batch) transitions, each task with its share of every batch.

        The share of a task that has no transition yet goes to the task that has the most. From
        empty rings come zeros; nothing can be raised under ``jit``.
        """
        ring = jnp.asarray(self._apportioned(shape[1])) if self._from is None else self._from
        ring = jnp.where(rings.filled[ring] > 0, ring, jnp.argmax(rings.filled))
        place = jax.random.randint(key, shape, 0, rings.filled[ring])
        found = rings.rows[ring * self._capacity + place]
        parts = jnp.split(found, np.cumsum(self._sizes)[:-1], axis=-1)
        scalars = {2, 4, 5}
        return Batch(*(p[..., 0] if i in scalars else p for i, p in enumerate(parts)))

    # -- checkpoint --------------------------------------------------------------------------

    def state(self, rings: Rings) -> dict[str, Any]:
        """Everything in ``rings``, the transitions of each as a log.

        A log is read from ``rings`` and refused once they are donated: save it before the next
        insert.
        """
        counters = jax.device_get({name: getattr(rings, name) for name in _COUNTERS})
        recent = jax.tree.map(np.array, rings.recent)  # copies: the next insert takes the memory
        logs = {}
        for ring in range(self._rings):
            stop = self._stop(counters, ring)
            read = partial(self._read, rings.rows, ring)
            logs[str(ring)] = Log(stop - int(counters["filled"][ring]), stop, read)
        return {
            "logs": logs,
            **{name: np.array(value) for name, value in counters.items()},
            "recent": {} if recent is None else recent._asdict() | {"batch": _present(recent)},
        }

    def _stop(self, counters: dict[str, Any], ring: int) -> int:
        """Transitions that one ring was ever given."""
        return int(counters["laps"][ring]) * self._capacity + int(counters["next"][ring])

    def _read(self, rows: jax.Array, ring: int, first: int, end: int) -> np.ndarray:
        """A copy of one ring's transitions ``first`` to ``end``, counted from the first ever."""
        if rows.is_deleted():
            raise LookupError("the replay has gone on; its state must be saved before it does")
        piece = min(READ_ROWS, self._capacity)
        found = np.empty((end - first, rows.shape[1]), rows.dtype)
        at = first
        while at < end:
            place = at % self._capacity
            count = min(piece, end - at, self._capacity - place)
            # Where a whole piece would stick out of the ring, it begins earlier.
            begin = min(place, self._capacity - piece)
            part = np.asarray(_piece(rows, ring * self._capacity + begin, piece))
            found[at - first : at - first + count] = part[place - begin :][:count]
            at += count
        return found

    def restored(self, rings: Rings, state: dict[str, Any]) -> Rings:
        """The rings that :meth:`state` was taken of, in the memory of ``rings``.

        ``rings``, of :meth:`init`, are taken over, and the transitions reach the device a piece
        at a time: it never holds them twice.

        Raises:
            ValueError: they were saved with other sizes.
        """
        logs = self._checked(state)
        recent = rings.recent
        if recent is not None:
            saved = state["recent"]
            batch = Batch(**{k: _copied(v) for k, v in saved["batch"].items()})
            recent = Step(batch, _copied(saved["truncated"]), _copied(saved["task"]))
        rows = rings.rows
        for ring, log in logs.items():
            start, at = self._stop(state, ring) - len(log), 0
            while at < len(log):
                place = (start + at) % self._capacity
                count = min(READ_ROWS, len(log) - at, self._capacity - place)
                piece = log.read(log.start + at, log.start + at + count)
                rows = _put(rows, piece, ring * self._capacity + place)
                rows.block_until_ready()  # or pieces that wait for the device pile up
                at += count
        counters = {name: _copied(state[name]) for name in _COUNTERS}
        return Rings(rows=rows, recent=recent, **counters)

    def _checked(self, state: dict[str, Any]) -> dict[int, Log]:
        """The transitions of each ring, which fit."""
        if len(state["logs"]) != self._rings:
            raise ValueError(
                f"saved replay holds {len(state['logs'])} tasks; this one {self._rings}"
            )
        logs = {int(name): Log.of(log) for name, log in state["logs"].items()}
        width = sum(self._sizes)
        for ring, log in logs.items():
            if log.shape[1] != width or len(log) != min(self._stop(state, ring), self._capacity):
                raise ValueError(
                    f"saved replay holds {len(log)} x {log.shape[1]} numbers of task {ring}; "
                    f"this one {self._capacity} x {width}"
                )
        return logs


_COUNTERS = ("next", "laps", "filled", "seen")


def _copied(saved: Any) -> jax.Array:
    """On the device. Copied by NumPy: JAX would compile a copy for each shape."""
    return jnp.asarray(np.array(saved))


def _present(step: Step) -> dict[str, Any]:
    return {name: part for name, part in step.batch._asdict().items() if part is not None}


@partial(jax.jit, static_argnums=2)
def _piece(rows: jax.Array, first: int, count: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(rows, first, count)


@partial(jax.jit, donate_argnums=0)
def _put(rows: jax.Array, piece: np.ndarray, first: int) -> jax.Array:
    """``rows`` with ``piece`` from row ``first`` on, in the same memory."""
    return jax.lax.dynamic_update_slice_in_dim(rows, jnp.asarray(piece, rows.dtype), first, 0)
