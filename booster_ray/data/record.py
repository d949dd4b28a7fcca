"""Episodes of a policy as a dataset: every step's observation, action, reward terms and ending.

With noise, the played actions lie off the policy's, and what it would have done is kept beside
them: a cloned policy then knows the way back (Laskey et al. 2017, "DART: Noise Injection for Robust
Imitation Learning"). The noise's deviation differs from episode to episode, from 0 to twice its
mean, as :func:`booster_ray.rl.imitation.noise_spread` has it.

A weight of a reward term is its run's own, so each term's magnitude is kept, and whoever trains on
the episodes weighs them. ``rewards`` are the competition's: the official score, paid at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.data.dataset import CLEAN, TERMS, Episode, split_of, write_shard
from booster_ray.data.playing import Recorded, load_recorded
from booster_ray.runtime.seeding import stream_generator
from booster_ray.soccer import game, spawn
from booster_ray.soccer.rewards import RECORDED
from booster_ray.soccer.rewards import TERMS as REWARD_TERMS

FIRST_SEED = 10_000
"""Beyond the seeds on which training and ``evaluate`` judge."""
A_SHARD = 48
"""Episodes; a process plays them at once, and what is killed loses as many at most."""
NOISE_SEED = 0
"""Of what is drawn; every episode has a stream of its own, by its task and seed."""
GOLDEN = 0.5 * (5**0.5 - 1)
"""Its multiples fill [0, 1) evenly however many there are (Weyl)."""
OFFICIAL = "official"
"""The reward term that pays the official score."""


class Plan(NamedTuple):
    """All that decides what is recorded; plain data, because processes are given it."""

    target: str
    config: str | None
    world: str
    """``native`` or ``official``."""
    tasks: tuple[str, ...]
    noise: float
    """Standard deviation, of an action; mean over the episodes."""
    validation: float


class Batch(NamedTuple):
    """The episodes of one shard."""

    plan: Plan
    episodes: tuple[tuple[str, int, int], ...]
    """(task, seed, number among the episodes of its task)."""


def batches(plan: Plan, first: int, episodes: int) -> list[Batch]:
    """All shards of a recording of ``episodes`` episodes a task, seeds ``first``, ``first`` + 1, …

    A shard is of one task, whose episodes are of about one length: worlds that are over wait.
    Without noise, all episodes of a task that draws nothing are one, and it is recorded once.
    """
    made = []
    for task in plan.tasks:
        alike = not plan.noise and task in spawn.DETERMINISTIC
        mine = [(task, first + i, i) for i in range(1 if alike else episodes)]
        made += [Batch(plan, tuple(mine[i : i + A_SHARD])) for i in range(0, len(mine), A_SHARD)]
    return made


def make(batch: Batch, path: Path) -> int:
    """Play and write one shard; returns its episodes."""
    return write_shard(path, played(batch))


def term_names() -> list[str]:
    """The columns of :data:`~booster_ray.data.dataset.TERMS`."""
    return list(REWARD_TERMS)


@lru_cache(maxsize=1)
def policy_of(target: str, config: str | None) -> Recorded:
    """The policy of a plan, once in a process."""
    import torch

    torch.set_num_threads(1)  # for a few rows, others cost more than they give
    return load_recorded(target, config)


def played(batch: Batch) -> Iterator[Episode]:
    """The episodes of one shard."""
    plan = batch.plan
    policy = policy_of(plan.target, plan.config)
    if plan.world == "native":
        world = _native(policy, [task for task, *_ in batch.episodes])
        try:
            yield from _play(policy, world, batch.episodes, plan)
        finally:
            world.close()
        return
    for task in plan.tasks:
        mine = [one for one in batch.episodes if one[0] == task]
        if not mine:
            continue
        world = _official(policy, task)
        try:
            for one in mine:
                yield from _play(policy, world, [one], plan)
        finally:
            world.close()


def world_options(policy: Recorded) -> dict[str, Any]:
    """How worlds are made that weigh every reward term by 1, in the unit of its magnitude."""
    settings = policy.settings
    return {
        "gains": settings.gains(),
        "mode": settings.mode,
        "decimation": settings.decimation,
        "features": settings.features,
        "gait_frequency": settings.gait_frequency,
        "weights": dict.fromkeys(REWARD_TERMS, 1.0),
    }


def _native(policy: Recorded, tasks: Sequence[str]) -> Any:
    from booster_ray.envs.native import NativeWorld

    return NativeWorld(tasks, len(tasks), auto_reset=False, **world_options(policy))


def _official(policy: Recorded, task: str) -> Any:
    from booster_ray.envs.official_world import OfficialWorld

    return OfficialWorld([task], 1, **world_options(policy))


def _play(
    policy: Recorded, world: Any, episodes: Sequence[tuple[str, int, int]], plan: Plan
) -> list[Episode]:
    """Play one episode in each world, all at once."""
    n = len(episodes)
    noise = _noise(plan, episodes, game.EPISODE_STEPS // policy.settings.decimation + 1)
    observation = world.reset(0, env_seeds=[seed for _, seed, _ in episodes])
    seen: list[np.ndarray] = [observation]
    actions: list[np.ndarray] = []
    clean: list[np.ndarray] = []
    terms: list[np.ndarray] = []
    sums, over = np.zeros((n, len(REWARD_TERMS))), np.zeros(n, bool)
    records: dict[int, dict[str, float]] = {}
    length, terminated = np.zeros(n, int), np.zeros(n, bool)
    while not over.all():
        wanted = np.asarray(policy.act(_worlds(world), observation), np.float32)
        _check(policy, wanted)
        action = np.clip(wanted + noise[len(actions)], -1.0, 1.0) if plan.noise else wanted
        result = world.step(action)
        records |= {int(e["env"]): e for e in result.episodes if not over[int(e["env"])]}
        now = _sums(world, records, over)
        clean.append(wanted)
        actions.append(action)
        seen.append(result.final_observation)
        terms.append(now - sums)
        ended = (result.terminated | result.truncated) & ~over
        terminated |= ended & result.terminated
        length += ~over
        over, sums, observation = over | ended, now, result.observation
    parts = [np.stack(part) for part in (seen, actions, clean, terms)]

    def one(i: int) -> Episode:
        mine = [part[:, i] for part in parts]
        return _episode(episodes[i], mine, int(length[i]), bool(terminated[i]), records[i], plan)

    return [one(i) for i in range(n)]


def _worlds(world: Any) -> Any:
    """The native worlds, which an expert is asked about; those beside the official ones, too."""
    return getattr(world, "native", world)


def _sums(world: Any, records: dict[int, dict[str, float]], over: np.ndarray) -> np.ndarray:
    """(n, terms): what each episode's terms came to so far, also of one that has just ended.

    Official worlds begin the next episode within the step, and its sums are zero again.
    """
    sums = np.stack([_worlds(world).term_sums()[name] for name in REWARD_TERMS], axis=1)
    for i in map(int, np.flatnonzero(~over)):
        if i in records:
            sums[i] = [records[i][RECORDED + name] for name in REWARD_TERMS]
    return sums


def _noise(plan: Plan, episodes: Sequence[tuple[str, int, int]], steps: int) -> np.ndarray:
    """(steps, n, 12): each episode's own, whichever others are played beside it."""
    drawn = []
    for task, seed, number in episodes:
        rng = stream_generator(NOISE_SEED, "demonstrations", game.TASKS.index(task), seed)
        spread = 2.0 * plan.noise * ((number + 1) * GOLDEN % 1.0)
        drawn.append(spread * rng.standard_normal((steps, game.ACTION_SIZE), np.float32))
    return np.stack(drawn, axis=1).astype(np.float32)


def _check(policy: Recorded, action: np.ndarray) -> None:
    if not np.isfinite(action).all():
        raise ConfigError(policy.name, "gives actions that are not finite")


def _episode(
    which: tuple[str, int, int],
    parts: Sequence[np.ndarray],
    length: int,
    terminated: bool,
    record: dict[str, float],
    plan: Plan,
) -> Episode:
    task, seed, _ = which
    seen, actions, clean, terms = parts
    told = {k: float(v) for k, v in record.items() if k not in ("env", "task", "return")}
    told = {k: v for k, v in told.items() if not k.startswith(RECORDED)}
    official = list(REWARD_TERMS).index(OFFICIAL)
    infos = {TERMS: _after_reset(terms[:length])}
    if plan.noise:
        infos[CLEAN] = _after_reset(clean[:length], first=False)
    return Episode(
        np.asarray(seen[: length + 1], np.float32),
        np.asarray(actions[:length], np.float32),
        np.asarray(terms[:length, official], np.float32),
        terminated,
        infos,
        {"task": task, "seed": seed, "split": split_of(seed, plan.validation), **told},
    )


def _after_reset(values: np.ndarray, *, first: bool = True) -> np.ndarray:
    """float32 (T + 1, …) of (T, …): a row of zeros for the reset, or behind the last."""
    nothing = np.zeros((1, *values.shape[1:]))
    return np.concatenate([nothing, values] if first else [values, nothing]).astype(np.float32)
