"""Gate 3: in the official game the converted policy behaves as in MJX.

The reference is the JAX policy in MJX worlds without randomization, whatever worlds it was
trained in. Both simulators play the same spawns, and what is lost between them is tested against
bounds (:mod:`booster_ray.evaluate.gates.noninferiority`), in rounds that stop when the answer is
known (:mod:`booster_ray.evaluate.gates.rounds`). A policy that survives longer or scores more in
the official game than in MJX passes, and is told of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from booster_ray.evaluate.gates import noninferiority
from booster_ray.evaluate.gates.conversion import jax_policy
from booster_ray.evaluate.gates.mjx import MjxGame
from booster_ray.evaluate.gates.noninferiority import BOUNDS, Bound, Sample
from booster_ray.evaluate.gates.rounds import (
    EPISODES,
    FIRST_ROUND,
    LEVEL,
    MINIMUM,
    Round,
    schedule,
)
from booster_ray.evaluate.play import (
    Episode,
    Progress,
    play_native,
    play_official,
    silent,
    wanted,
)
from booster_ray.evaluate.target import actor_target, checkpoint_actor
from booster_ray.policy.sai import one_thread
from booster_ray.policy.settings import settings_of
from booster_ray.soccer import game, spawn
from booster_ray.soccer.scoring import worst_terms
from booster_ray.store.gate_results import GateResult

FIRST_SEED = 1000
"""Beyond those of training's own evaluations."""

DRAWN = tuple(task for task in game.TASKS if task not in spawn.DETERMINISTIC)
"""Tasks that are a sample; of the others one pair of episodes tells all."""

NAMES = {"seconds": "survival", "fallen": "fall rate", "score": "score"}

DIFFERENCES = {
    "survival": ("seconds", 0.5, "the policy loses its balance in ways MJX does not show"),
    "height": ("height", 0.05, "it stands lower: compare PD gains, masses and the ground's height"),
    "contact": ("contact", 0.05, "feet meet the ground differently: randomize friction"),
    "torque": ("torque", 0.02, "it works harder: randomize masses, damping and PD gains"),
}
"""What may differ most: the measure, the least value to compare with, and what it hints at."""


def gate3(
    checkpoint: Path,
    episodes: int = EPISODES,
    *,
    world: str = "native",
    impl: str = "auto",
    threads: int = 1,
    progress: Progress = silent,
) -> GateResult:
    """Play the same episodes in MJX and in the official game until it is known who is better.

    Args:
        checkpoint: of a run of the game.
        episodes: of each task in each world, at most; below ``rounds.MINIMUM`` it cannot pass.
        world: ``native`` (equal to the official environment, faster) or ``official``.
        impl: MJX's physics: ``auto``, ``jax`` or ``warp``.
        threads: of native physics.
        progress: told the thousandths of an episode of a task that are done, of all.

    Raises:
        CheckpointError: the checkpoint is damaged, or its parts do not fit.
        ValueError: MJX cannot be had as asked.
    """
    actor = checkpoint_actor(checkpoint)
    first = len(wanted(range(min(episodes, FIRST_ROUND)), game.TASKS))
    mjx = MjxGame(actor.config, jax_policy(actor), first, impl)
    target = actor_target(str(checkpoint), actor.module, settings_of(actor.config), checkpoint)
    official = play_official if world == "official" else partial(play_native, threads=threads)
    reference: list[Episode] = []
    played: list[Episode] = []
    before = 0
    tasks: Sequence[str] = game.TASKS
    for now in schedule(episodes):
        seeds = range(FIRST_SEED + before, FIRST_SEED + now.episodes)
        half = (before + now.episodes) / 2
        with _part(progress, before, half, episodes) as tell:
            reference += mjx.play(wanted(seeds, tasks), tell)
        with _part(progress, half, now.episodes, episodes) as tell, one_thread():
            played += official(seeds, target.make_player, tasks=tasks, progress=tell)
        verdict = compare(reference, played, actor.config.randomization.level, now)
        if verdict.passed is not None:
            return verdict
        before, tasks = now.episodes, DRAWN
    return verdict


@contextmanager
def _part(progress: Progress, begin: float, end: float, whole: int) -> Iterator[Progress]:
    """The progress of what is ``begin`` to ``end`` of ``whole`` episodes, which may end early."""

    def tell(done: int, of: int) -> None:
        progress(int(1000 * (begin + (end - begin) * done / of)), 1000 * whole)

    yield tell
    tell(1, 1)


def compare(
    reference: Sequence[Episode], played: Sequence[Episode], level: int, now: Round | None = None
) -> GateResult:
    """The gate's verdict on the same episodes in MJX and in the official game.

    Args:
        reference: in MJX; at least one of each task.
        played: in the official game, of the same tasks and seeds in the same order.
        level: of domain randomization in training.
        now: the round that was played; None: the only one.
    """
    now = now or Round(sum(e.task == DRAWN[0] for e in played), LEVEL)
    criteria = _criteria(reference, played)
    _decide(criteria, now)
    numbers: dict[str, Any] = {
        "level": LEVEL,
        "alpha": now.alpha,
        "episodes": now.episodes,
        "lost": {"mjx": sum(e.lost for e in reference), "official": sum(e.lost for e in played)},
        "tasks": {task: {} for task in game.TASKS},
    }
    for c in criteria:
        numbers["tasks"][c.task][NAMES[c.name]] = c.told
    holds = [c.told["holds"] for c in criteria]
    passed = False if False in holds else None if None in holds else True
    numbers["differences"] = differences(reference, played)
    numbers["better_than_mjx"] = [
        f"{NAMES[c.name]} in {c.task}" for c in criteria if c.told["loss"] < -c.told["bound"]
    ]  # fmt: skip
    advice = [] if passed is not False else advise(numbers["differences"], level)
    if passed is None:
        numbers["needed"], advice = _what_would_tell(criteria, now)
    return GateResult(3, "transfer", passed, numbers, [_row(c) for c in criteria], advice)


class Criterion(NamedTuple):
    """One metric of one task."""

    task: str
    name: str
    """Of ``BOUNDS``."""
    told: dict[str, Any]
    """JSON."""
    sample: Sample | None
    """None where the task is deterministic: there is nothing to be unsure of."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.task}: {NAMES[self.name]}"


def _criteria(reference: Sequence[Episode], played: Sequence[Episode]) -> list[Criterion]:
    found = []
    for task in game.TASKS:
        pairs = [
            (theirs, ours)
            for theirs, ours in zip(reference, played, strict=True)
            if theirs.task == task
        ]
        if any((theirs.task, theirs.seed) != (ours.task, ours.seed) for theirs, ours in pairs):
            raise ValueError("the episodes are not of the same tasks and seeds")
        for name, bound in BOUNDS.items():
            mjx, here = (
                np.array([getattr(pair[i], name) for pair in pairs], float) for i in (0, 1)
            )
            worst = {"score": sum(worst_terms(task).values()), "seconds": 0.0, "fallen": 1.0}[name]
            sample = Sample(name, mjx, here, worst) if task in DRAWN else None
            found.append(Criterion(task, name, _told(mjx, here, bound), sample))
    return found


def _told(theirs: np.ndarray, ours: np.ndarray, bound: Bound) -> dict[str, Any]:
    mjx, here = float(theirs.mean()), float(ours.mean())
    return {
        "pairs": len(ours),
        "mjx": mjx,
        "official": here,
        "loss": bound.sign * (mjx - here),
        "bound": float(bound.at(theirs.mean())),
    }


def _decide(criteria: list[Criterion], now: Round) -> None:
    """Tell of each criterion whether it ``holds``; None: not known yet."""
    sampled = [(c.told, noninferiority.evidence(*c.sample)) for c in criteria if c.sample]
    failed = noninferiority.beyond([found for _, found in sampled], now.alpha)
    for (told, found), fails in zip(sampled, failed, strict=True):
        told["p_within"], told["p_beyond"] = float(found.against_loss), float(found.against_bound)
        shown = bool(found.against_loss <= now.alpha)
        told["holds"] = False if fails else True if shown else None
    for c in criteria:
        if c.sample is None:
            c.told["holds"] = c.told["loss"] <= c.told["bound"]


def _row(criterion: Criterion) -> Any:
    told, sign = criterion.told, BOUNDS[criterion.name].sign
    limit = told["mjx"] - sign * told["bound"]
    expected = f"{'>=' if sign > 0 else '<='} {limit:.2f} (MJX {told['mjx']:.2f})"
    found = f"{told['official']:.2f}" + (", not known yet" if told["holds"] is None else "")
    return criterion.title, found, expected, told["holds"]


def _what_would_tell(criteria: list[Criterion], now: Round) -> tuple[int | None, list[str]]:
    """Episodes of a task that probably would, None: hardly any number; and the advice."""
    unsure = [c.title for c in criteria if c.told["holds"] is None]
    lines = [f"not known yet after {now.episodes} episodes of each task: {', '.join(unsure)}"]
    if now.episodes < MINIMUM:
        lines.append(f"fewer than {MINIMUM} episodes cannot pass, however alike they are")
    count = noninferiority.needed([c.sample for c in criteria if c.sample], now.episodes)
    if count is None:
        return None, [*lines, "what is lost lies at its bound: hardly any number would tell"]
    return count, [*lines, f"next: --episodes {count}, which probably would tell"]


def differences(reference: Sequence[Episode], played: Sequence[Episode]) -> dict[str, float]:
    """|official - MJX| over MJX's, of survival, height, contact and torque; the largest first."""
    found = {}
    for name, (measure, least, _) in DIFFERENCES.items():
        theirs, ours = (
            float(np.mean([getattr(e, measure) for e in side])) if side else 0.0
            for side in (reference, played)
        )
        found[name] = abs(ours - theirs) / max(abs(theirs), least)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def advise(found: dict[str, float], level: int) -> list[str]:
    """What to do about a gate that failed."""
    most = next(iter(found))
    differed = ", ".join(f"{name} {share:.0%}" for name, share in found.items())
    lines = [f"what differed most: {most} ({differed}); {DIFFERENCES[most][2]}"]
    if level < 3:
        lines.append(f"next: train with randomization.level={level + 1} (it was {level})")
    else:
        lines.append("randomization.level is 3 already: train longer, or finetune officially")
    return lines
