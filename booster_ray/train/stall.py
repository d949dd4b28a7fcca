"""Attempts that make no progress any more: ended, written down with their stacks, made again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from booster_ray.config import Config
from booster_ray.runtime.watchdog import Watchdog
from booster_ray.store.attempts import add_attempt, share_attempts
from booster_ray.store.durable import replace_text
from booster_ray.store.files import STALL
from booster_ray.store.folder import publish

STALLED = "the trial's process stalled"
FIRST_MINUTES = 60.0
"""How long the beginning of an attempt may take: bringing checkpoints, compilation."""


@contextmanager
def ended_if_stalled(config: Config, directory: Path, attempt: str) -> Iterator[None]:
    """Inside, the process ends when the run makes no progress for ``trainer.stall_minutes``.

    The stacks of all threads go to ``stall.txt`` and to standard error, and the ledger says of the
    attempt that it stalled, and where.

    Args:
        config: the run's.
        directory: the run's.
        attempt: its id in the ledger.
    """
    minutes = config.trainer.stall_minutes
    if not minutes:
        yield
        return

    def record(place: str, stacks: str) -> None:
        text = f"{STALLED}: no progress for {minutes:g} minutes, in {place}"
        # One that fails must not keep the others from being tried.
        with suppress(OSError):
            replace_text(directory / STALL, stacks)
        with suppress(OSError):
            add_attempt(directory, attempt, "stalled", text)
        with suppress(OSError):
            share_attempts(config, directory)
            publish(config, directory / STALL)

    with Watchdog(60 * minutes, 60 * max(minutes, FIRST_MINUTES), record):
        yield
