"""What a training loop yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Tree = dict[str, Any]
"""Nested dict of arrays and JSON scalars: a whole training state."""


class Report(NamedTuple):
    """One report of a loop; the loop stands still until the next is asked for."""

    metrics: dict[str, float]
    """Always ``env_steps``; scores where an evaluation was made."""
    capture: Callable[[], Tree]
    """Takes the whole state as it is now; from it the loop goes on bit for bit."""
    checkpoint_due: bool
    """Whether the configured cadence asks for a checkpoint here."""


Loop = Iterator[Report]


class TrainingDiverged(RuntimeError):
    """A loss is not finite or has exploded; the message says which, where, and what to try."""

    def __init__(
        self, what: str, env_steps: int, rates: str = "sac.critic_lr and sac.actor_lr"
    ) -> None:
        super().__init__(
            f"{what} after {env_steps} env steps; lower {rates} or check the reward weights"
        )
