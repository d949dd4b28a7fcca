"""What a training loop yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from booster_ray.store.checkpoint import Tree


class Report(NamedTuple):
    """One report of a loop; the loop stands still until the next is asked for."""

    metrics: dict[str, float]
    """Always ``env_steps``; scores where an evaluation was made."""
    capture: Callable[[], Tree]
    """Takes the whole state as it is now; from it the loop goes on bit for bit."""
    checkpoint_due: bool
    """Whether the configured cadence asks for a checkpoint here."""
    unfinished: bool = False
    """Whether an evaluation that is due here was cut short. The state is to be saved, the report
    to be forgotten: going on from that state makes it again, whole."""


Loop = Iterator[Report]


RATES = {
    "pretrain": "sac.critic_lr and sac.actor_lr",
    "finetune": "ddpg.critic_lr and the lr of ddpg.thawing",
}
"""What to lower when a loss explodes, by stage."""


class TrainingDiverged(RuntimeError):
    """A loss is not finite or has exploded; the message says which, where, and what to try."""

    def __init__(self, what: str, env_steps: int, rates: str) -> None:
        super().__init__(
            f"{what} after {env_steps} env steps; lower {rates} or check the reward weights"
        )


class WorldDiverged(TrainingDiverged):
    """A world gave a reward or an observation that is not finite; no learning rate mends that."""

    def __init__(self, kind: str, what: str, env_steps: int) -> None:
        environment = kind.startswith(("gym:", "brax:", "metaworld:"))
        fix = "mend the environment" if environment else "check the reward weights"
        RuntimeError.__init__(
            self, f"world.kind {kind} gives {what} after {env_steps} env steps; {fix}"
        )


def check_given(kind: str, env_steps: int, **given: np.ndarray) -> None:
    """See that what worlds give is finite.

    Args:
        kind: `world.kind`.
        env_steps: made before.
        given: arrays (n, ...) by what they are, one row a world.

    Raises:
        WorldDiverged: some number is not.
    """
    for what, values in given.items():
        if np.isfinite(values).all():
            continue
        rows = values.reshape(len(values), -1)
        world, place = np.argwhere(~np.isfinite(rows))[0]
        at = f" in place {place}" if rows.shape[1] > 1 else ""
        name = f"{'an' if what[0] in 'aeiou' else 'a'} {what.replace('_', ' ')}"
        text = f"{name} of {rows[world, place]}{at} in world {world} of {len(rows)}"
        raise WorldDiverged(kind, text, env_steps)
