"""Gate 3: in the official game the converted policy behaves as in MJX.

The reference is the JAX policy in MJX worlds without randomization, whatever worlds it was
trained in. The bounds are on what is lost: a policy that survives longer or scores more in the
official game than in MJX passes, and is told of. To each bound comes one standard error of the
difference, because ten episodes do not tell a rate to a tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from booster_ray.evaluate.gates.conversion import jax_policy
from booster_ray.evaluate.gates.mjx import play_mjx
from booster_ray.evaluate.play import Episode, Progress, play_native, play_official, silent
from booster_ray.evaluate.target import actor_target, checkpoint_actor
from booster_ray.policy.sai import one_thread
from booster_ray.policy.settings import settings_of
from booster_ray.soccer import game
from booster_ray.store.gate_results import GateResult

EPISODES = 10
"""Of each task."""
FIRST_SEED = 1000
"""Beyond those of training's own evaluations."""


class Bound(NamedTuple):
    """How much may be lost of a metric: an amount, or a share of the MJX value, if larger."""

    amount: float
    share: float
    sign: int
    """1 where more is better, -1 where less is."""


BOUNDS = {
    "seconds": Bound(0.5, 0.2, 1),
    "fallen": Bound(0.2, 0.0, -1),
    "score": Bound(0.5, 0.25, 1),
}
"""By the names of :class:`Episode`'s fields: survival (s), fall rate, official score."""

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
    """Play ``episodes`` a task in MJX and in the official game, and compare.

    Args:
        checkpoint: of a run of the game.
        episodes: of each task, in each world.
        world: ``native`` (equal to the official environment, faster) or ``official``.
        impl: MJX's physics: ``auto``, ``jax`` or ``warp``.
        threads: of native physics.
        progress: shown as it goes.

    Raises:
        CheckpointError: the checkpoint is damaged, or its parts do not fit.
        ValueError: MJX cannot be had as asked.
    """
    actor = checkpoint_actor(checkpoint)
    reference = play_mjx(actor.config, jax_policy(actor), episodes, impl=impl, progress=progress)
    target = actor_target(str(checkpoint), actor.module, settings_of(actor.config), checkpoint)
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    with one_thread():
        if world == "official":
            played = play_official(seeds, target.make_player, progress=progress)
        else:
            played = play_native(seeds, target.make_player, threads=threads, progress=progress)
    return compare(reference, played, actor.config.randomization.level)


def compare(reference: Sequence[Episode], played: Sequence[Episode], level: int) -> GateResult:
    """The gate's verdict on episodes in MJX and in the official game.

    Args:
        reference: in MJX; at least one of each task.
        played: in the official game; likewise.
        level: of domain randomization in training.
    """
    numbers: dict[str, Any] = {"tasks": {}}
    rows, better, passed = [], [], True
    for task in game.TASKS:
        theirs, ours = (_values(side, task) for side in (reference, played))
        told: dict[str, Any] = {"episodes": [len(theirs["score"]), len(ours["score"])]}
        if not min(told["episodes"]):
            told["error"] = "no episode ended with a finite state"
            rows.append((f"{task}: episodes", str(min(told["episodes"])), ">= 1", False))
            passed = False
        for name, bound in BOUNDS.items() if min(told["episodes"]) else ():
            found = _compared(theirs[name], ours[name], bound)
            told[NAMES[name]] = found
            passed &= found["holds"]
            rows.append(_row(f"{task}: {NAMES[name]}", found, bound.sign))
            if found["loss"] < -found["bound"]:
                better.append(f"{NAMES[name]} in {task}")
        numbers["tasks"][task] = told
    numbers["differences"] = differences(reference, played)
    numbers["better_than_mjx"] = better
    advice = [] if passed else advise(numbers["differences"], level)
    return GateResult(3, "transfer", passed, numbers, rows, advice)


def _values(episodes: Sequence[Episode], task: str) -> dict[str, np.ndarray]:
    mine = [e for e in episodes if e.task == task]
    return {name: np.array([getattr(e, name) for e in mine], float) for name in BOUNDS}


def _compared(theirs: np.ndarray, ours: np.ndarray, bound: Bound) -> dict[str, Any]:
    mjx, here = float(theirs.mean()), float(ours.mean())
    error = float(np.sqrt(theirs.var() / len(theirs) + ours.var() / len(ours)))
    allowed = max(bound.amount, bound.share * abs(mjx)) + error
    loss = bound.sign * (mjx - here)
    return {
        "mjx": mjx,
        "official": here,
        "loss": loss,
        "bound": allowed,
        "standard_error": error,
        "holds": bool(loss <= allowed),
    }


def _row(what: str, found: dict[str, Any], sign: int) -> tuple[str, str, str, bool]:
    limit = found["mjx"] - sign * found["bound"]
    expected = f"{'>=' if sign > 0 else '<='} {limit:.2f} (MJX {found['mjx']:.2f})"
    return what, f"{found['official']:.2f}", expected, found["holds"]


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
