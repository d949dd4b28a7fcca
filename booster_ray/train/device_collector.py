"""Collecting and learning in one compiled step, for worlds that live where JAX computes.

Nothing goes through the host between two dispatches: a dispatch is a ``lax.scan`` over control
steps, each of which acts in every world, inserts what came of it into the replay on the device,
and makes the updates. Its state is donated, so that the replay is written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from booster_ray.config import Config
from booster_ray.config.curriculum import reward_factors
from booster_ray.envs.device import Dynamics, ScalableDynamics
from booster_ray.envs.divided import DividedDynamics
from booster_ray.envs.mjx import Outcome
from booster_ray.rl import normalizer
from booster_ray.rl.replay import FORMAT_1
from booster_ray.rl.sac.device_demonstrations import ShownReplay
from booster_ray.rl.sac.device_replay import DeviceReplay, Rings, Step
from booster_ray.rl.sac.host import Shown, check_digest
from booster_ray.rl.sac.losses import Batch, Metrics
from booster_ray.rl.tree import from_tree, to_tree
from booster_ray.runtime.programs import Programs
from booster_ray.runtime.seeding import stream_seed
from booster_ray.soccer.rewards import RECORDED
from booster_ray.store.checkpoint import CheckpointError, Tree
from booster_ray.train.collector import EPISODE_MEANS, EPISODES_AVERAGED, episode_metrics

AVERAGED = EPISODE_MEANS["pretrain"]
"""What is averaged over ended episodes."""


class Learner(Protocol):
    """An algorithm as pure functions of its state; it knows arrays, and nothing of worlds."""

    numbers: Any
    """A pytree of what may differ between learners that share their compiled functions."""
    structure: Hashable
    """All the rest that compiled functions depend on."""

    def numbers_at(self, env_steps: int) -> Any:
        """``numbers`` after so many env steps."""

    def bound(self, numbers: Any) -> Learner:
        """This learner with other numbers, which may be traced."""

    def init(self, seed: int) -> Any:
        """The state that learning begins with, a pytree."""

    def act(self, state: Any, observation: jax.Array) -> tuple[Any, jax.Array]:
        """Explore: actions (n, act) for observations (n, obs)."""

    def act_mean(self, state: Any, observation: Any) -> jax.Array:
        """Greedy actions. Shape: (n, obs) → (n, act)."""

    def update(self, state: Any, batches: Batch) -> tuple[Any, Metrics]:
        """One update for each of the stacked batches (updates, batch, ...); mean metrics."""


class Recent(NamedTuple):
    """The newest ended episodes, in a ring."""

    values: jax.Array
    """float32 (EPISODES_AVERAGED, len(AVERAGED))."""
    task: jax.Array
    """int32 (EPISODES_AVERAGED,)."""
    term_sums: dict[str, jax.Array]
    """float32 (EPISODES_AVERAGED,) of each reward term; NaN where an episode was not asked."""
    next: jax.Array
    """int32 ()."""
    filled: jax.Array
    """int32 ()."""
    lost: jax.Array
    """int32 (): episodes whose physics was lost, since the run's begin."""
    dropped: jax.Array
    """float32 (): contacts that found no room, since the run's begin."""


class Carry(NamedTuple):
    """Everything that changes."""

    learner: Any
    worlds: Any
    rings: Rings
    recent: Recent
    key: jax.Array
    """uint32 (2,): of the replay's samples."""
    before: jax.Array
    """int32 (): env steps left until learning starts."""


class Numbers(NamedTuple):
    """What may differ between collectors that share their compiled dispatch."""

    learner: Any
    replay: Any
    dynamics: Any


class Dispatch(NamedTuple):
    """Control steps of all worlds, each with its updates, as one function of what changes.

    It refers to nothing that belongs to a single run, so that the next run may use it compiled.
    """

    learner: Learner
    replay: DeviceReplay | ShownReplay
    dynamics: Dynamics[Any]
    steps: int
    """Control steps."""
    shape: tuple[int, int]
    """Updates after each step, and transitions of each."""

    @property
    def structure(self) -> Hashable:
        """What collectors share that share their compiled dispatch."""
        parts = self.learner, self.replay, self.dynamics
        return *(part.structure for part in parts), self.steps, self.shape

    @property
    def numbers(self) -> Numbers:
        """Those of its parts."""
        replay = self.replay.numbers(self.shape[1])
        return Numbers(self.learner.numbers, replay, self.dynamics.numbers)

    def __call__(self, numbers: Numbers, carry: Carry) -> tuple[Carry, Metrics]:
        """All its steps; the metrics are those of the last."""
        bound = self._replace(
            learner=self.learner.bound(numbers.learner),
            replay=self.replay.bound(numbers.replay),
            dynamics=self.dynamics.bound(numbers.dynamics),
        )
        carry, metrics = jax.lax.scan(bound._one_step, carry, length=self.steps)
        return carry, jax.tree.map(lambda values: values[-1], metrics)

    def _one_step(self, carry: Carry, _: None) -> tuple[Carry, Metrics]:
        """One control step of all worlds, then ``updates_per_step`` updates."""
        observation = self.dynamics.observation(carry.worlds)
        learner, action = self.learner.act(carry.learner, observation)
        worlds, outcome = self.dynamics.advance(carry.worlds, action)
        transitions = Batch(
            observation,
            action,
            outcome.reward,
            outcome.final_observation,
            outcome.terminated.astype(jnp.float32),
        )
        task = outcome.episodes["task"].astype(jnp.int32)
        rings = self.replay.insert(carry.rings, Step(transitions, outcome.truncated, task))
        key, use = jax.random.split(jax.random.wrap_key_data(carry.key))
        before = jnp.maximum(carry.before - len(task), 0)

        def learn(learner: Any) -> tuple[Any, Metrics]:
            return self.learner.update(learner, self.replay.sample(rings, use, self.shape))

        def wait(learner: Any) -> tuple[Any, Metrics]:
            _, metrics = jax.eval_shape(learn, learner)
            return learner, jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)

        learner, metrics = jax.lax.cond(before == 0, learn, wait, learner)
        recent = _remember(carry.recent, outcome)
        key = jax.random.key_data(key)
        return Carry(learner, worlds, rings, recent, key, before), metrics


_PROGRAMS: Programs[Callable[..., Any]] = Programs(2)
"""A program keeps a model of the physics, and what its constants are, on the device."""


class DeviceCollector:
    """Implements :class:`booster_ray.train.collector.Collector` on the device.

    With ``sac.devices`` above 1, worlds are divided among that many local devices
    (:mod:`booster_ray.envs.divided`), as the learner divides its batches; the replay stands whole
    on each.

    Args:
        config: a resolved config.
        learner: the algorithm.
        replay: where transitions go; of ``dynamics.num_envs`` lanes.
        dynamics: its worlds.
        starts: env steps before the first update.
        shown: demonstrations that batches hold besides; the normalization begins with what was
            seen in them. None: none.
    """

    def __init__(
        self,
        config: Config,
        learner: Learner,
        replay: DeviceReplay,
        dynamics: Dynamics[Any],
        starts: int,
        shown: Shown | None = None,
    ) -> None:
        self._config, self._learner, self._shown = config, learner, shown
        self._replay, self._dynamics = replay, dynamics
        state = learner.init(stream_seed(config.seed, "learner"))
        if shown is not None:
            state = state._replace(normalizer=normalizer.of(shown.demonstrations.observation))
        dispatch = Dispatch(
            learner,
            replay if shown is None else ShownReplay(replay, shown.demonstrations, shown.share),
            dynamics,
            config.world.steps_per_dispatch,
            (config.sac.updates_per_step, config.sac.batch_size),
        )
        self.stride, self.action_size = dispatch.steps * dynamics.num_envs, dynamics.action_size
        carry = Carry(
            learner=state,
            worlds=dynamics.start(stream_seed(config.seed, "worlds", 0, 0)),
            rings=self._replay.init(),
            recent=Recent(
                values=jnp.zeros((EPISODES_AVERAGED, len(AVERAGED))),
                task=jnp.zeros(EPISODES_AVERAGED, jnp.int32),
                term_sums={term: jnp.full(EPISODES_AVERAGED, jnp.nan) for term in dynamics.terms},
                next=jnp.int32(0),
                filled=jnp.int32(0),
                lost=jnp.int32(0),
                dropped=jnp.float32(0),
            ),
            key=jax.random.key_data(jax.random.key(stream_seed(config.seed, "replay"))),
            before=jnp.int32(starts),
        )
        # A checkpoint loses weak types: with them a first run would have a program of its own.
        carry = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), carry)
        self._placed = _placement(carry, dynamics)
        self._numbers = dispatch.numbers
        self._dispatch = _PROGRAMS.of(dispatch.structure, lambda: _compiled(dispatch, self._placed))
        self._take(carry)
        self._metrics: Metrics = {}

    def _take(self, carry: Carry) -> None:
        self._carry = carry if self._placed is None else jax.device_put(carry, self._placed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return np.asarray(self._learner.act_mean(self._carry.learner, observation))

    # -- on the host -------------------------------------------------------------------------

    def advance(self, env_steps: int) -> None:
        """``steps_per_dispatch`` control steps.

        It waits for them: were more dispatches under way, an interrupt would have to wait for
        all of them.
        """
        if self._config.curriculum and isinstance(self._dynamics, ScalableDynamics):
            factors = reward_factors(self._config, env_steps)
            worlds = self._dynamics.scale_rewards(self._carry.worlds, factors)
            self._take(self._carry._replace(worlds=worlds))
        numbers = self._numbers._replace(learner=self._learner.numbers_at(env_steps))
        self._carry, self._metrics = self._dispatch(numbers, self._carry)
        jax.block_until_ready(self._metrics)

    def metrics(self) -> dict[str, float]:
        """See :class:`Collector`; waits for the device."""
        before, recent, metrics = jax.device_get(
            (self._carry.before, self._carry.recent, self._metrics)
        )
        learned = {} if before else {name: float(value) for name, value in metrics.items()}
        counted = {"episodes_lost": float(recent.lost), "contacts_dropped": float(recent.dropped)}
        return learned | episode_metrics(_records(recent), AVERAGED) | counted

    def state(self) -> Tree:
        """See :class:`Collector`; the replay's must be saved before the next advance."""
        carry = self._carry
        rest = {"recent": carry.recent, "key": carry.key, "before": carry.before}
        return {
            "learner": to_tree(carry.learner),
            # Copies: the next dispatch takes over the memory.
            "world": jax.tree.map(np.array, self._dynamics.tree(carry.worlds)),
            "replay": self._replay.state(carry.rings),
            "fused": to_tree(rest),
            **({} if self._shown is None else {"demonstrations": self._shown.digest}),
        }

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`Collector`."""
        carry = self._carry
        if "replay" not in tree:
            raise CheckpointError(FORMAT_1)
        if self._shown is not None:
            check_digest(tree, self._shown.digest)
        rest = {"recent": carry.recent, "key": carry.key, "before": carry.before}
        # Not of every release, nor of a run that counted other terms.
        new = ("recent.task", "recent.term_sums", "recent.lost", "recent.dropped")
        fused = {name: leaf for name, leaf in to_tree(rest).items() if name.startswith(new)}
        self._take(
            Carry(
                learner=from_tree(carry.learner, tree["learner"]),
                worlds=self._dynamics.restored(carry.worlds, tree["world"]),
                rings=self._replay.restored(carry.rings, tree["replay"]),
                **from_tree(rest, fused | tree["fused"]),
            )
        )

    def close(self) -> None:
        """Nothing to stop: the device's memory goes with this object."""


def _remember(recent: Recent, outcome: Outcome) -> Recent:
    """Write down the episodes that ended in one step."""
    size = len(recent.values)
    count = jnp.sum(outcome.recorded, dtype=jnp.int32)
    turn = jnp.cumsum(outcome.recorded, dtype=jnp.int32) - 1
    # Of more than the ring holds, the last stay; the others go beyond the end and are dropped.
    kept = outcome.recorded & (turn >= count - size)
    place = jnp.where(kept, (recent.next + turn) % size, size)
    told = jnp.stack([outcome.episodes[name] for name in AVERAGED], axis=-1)
    return Recent(
        values=recent.values.at[place].set(told, mode="drop"),
        task=recent.task.at[place].set(outcome.episodes["task"].astype(jnp.int32), mode="drop"),
        term_sums={
            term: sums.at[place].set(outcome.episodes[RECORDED + term], mode="drop")
            for term, sums in recent.term_sums.items()
        },
        next=(recent.next + count) % size,
        filled=jnp.minimum(recent.filled + count, size),
        lost=recent.lost + _lost(outcome),
        dropped=recent.dropped + outcome.dropped,
    )


def _lost(outcome: Outcome) -> jax.Array:
    lost = outcome.recorded & (outcome.episodes["lost"] > 0)
    return jnp.sum(lost, dtype=jnp.int32)


def _records(recent: Recent) -> list[dict[str, float]]:
    """The ended episodes as a world on the host would record them."""
    records = []
    for i in range(int(recent.filled)):
        sums = {RECORDED + term: float(values[i]) for term, values in recent.term_sums.items()}
        records.append(
            {
                "task": int(recent.task[i]),
                **dict(zip(AVERAGED, recent.values[i].tolist(), strict=True)),
                **{name: value for name, value in sums.items() if not np.isnan(value)},
            }
        )
    return records


def _compiled(dispatch: Dispatch, placed: Carry | None) -> Callable[..., Any]:
    """Compiled where it is called first; takes over the memory of its second argument."""

    def many_steps(numbers: Numbers, carry: Carry) -> tuple[Carry, Metrics]:
        return dispatch(numbers, carry)

    options: dict[str, Any] = {}
    if placed is not None:
        options = {"in_shardings": (None, placed), "out_shardings": (placed, None)}
    return jax.jit(many_steps, donate_argnums=1, **options)


def _placement(carry: Carry, dynamics: Dynamics[Any]) -> Carry | None:
    """Which device holds what: worlds divided, all else whole. None: there is but one."""
    if not isinstance(dynamics, DividedDynamics):
        return None
    whole = NamedSharding(dynamics.mesh, PartitionSpec())
    placed = jax.tree.map(lambda _: whole, carry)
    return placed._replace(worlds=dynamics.placement(carry.worlds))
