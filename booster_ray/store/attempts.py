"""How each attempt at a run ended that did not reach its end: ``attempts.json`` beside its work."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal, TypedDict

from booster_ray.store.durable import replace_text
from booster_ray.store.files import read_progress

ATTEMPTS = "attempts.json"

How = Literal["error", "storage", "died", "preempted"]
"""The run raised, its storage failed, its process or machine vanished, or it made way in time."""


class Attempt(TypedDict):
    """One attempt."""

    how: How
    env_steps: int
    """Of the last report, 0 before the first."""
    text: str
    """The error, or the notice of preemption."""
    seconds: float | None
    """From the notice to the saved checkpoint (preempted)."""
    when: str
    """Local time."""


def read_attempts(directory: Path) -> list[Attempt]:
    """What is recorded of a run, oldest first."""
    try:
        found: list[Attempt] = json.loads((directory / ATTEMPTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return found


def add_attempt(
    directory: Path, how: How, text: str, seconds: float | None = None
) -> list[Attempt]:
    """Record that an attempt has ended, where the run now stands; returns all of them.

    Raises:
        OSError: it cannot be written.
    """
    attempt: Attempt = {
        "how": how,
        "env_steps": last_env_steps(directory),
        "text": text,
        "seconds": seconds,
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    attempts: list[Any] = [*read_attempts(directory), attempt]
    directory.mkdir(parents=True, exist_ok=True)
    replace_text(directory / ATTEMPTS, json.dumps(attempts, indent=1) + "\n")
    return attempts


def last_env_steps(directory: Path) -> int:
    """Env steps of the last report of a run, 0 before the first."""
    reports = read_progress(directory)
    return int(reports[-1]["env_steps"]) if reports else 0
