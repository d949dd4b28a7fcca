"""How the attempts at a run have ended: an append-only ledger of lines, ``attempts.jsonl``.

The trial's process and the sweep's driver both write to it, perhaps on two machines with a copy
each. An attempt has an id that both know; a line is never changed, and copies are merged line by
line, so that no writer can lose what another has written.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Literal, TypedDict

from booster_ray.config import Config
from booster_ray.store.failure import last_env_steps
from booster_ray.store.files import ATTEMPTS, ATTEMPTS_ARRAY
from booster_ray.store.folder import mirror_of

How = Literal["error", "storage", "died", "stalled", "preempted"]
"""The run raised, its storage failed, its process or machine vanished, it made no progress, or it
made way in time."""
OWN_WORDS: tuple[How, ...] = ("preempted", "stalled")
"""What an attempt says of itself, which counts before what others judge of it."""
_ID = re.compile(r"(\d+)-.+")


class Attempt(TypedDict):
    """One attempt that has ended."""

    id: str
    """Unique, and sorted by order of the attempts; empty in what an earlier release wrote."""
    how: How
    env_steps: int
    """Of the last report, 0 before the first."""
    text: str
    """The error, or the notice of preemption."""
    seconds: float | None
    """From the notice to the saved checkpoint (preempted)."""
    when: str
    """Local time."""


def new_attempt(directory: Path) -> str:
    """An id for the attempt that is about to begin.

    Raises:
        OSError: the ledger cannot be read.
    """
    # After all that are known: those of an earlier release have no ids, one may be lost.
    known = read_attempts(directory)
    numbers = [int(found[1]) for one in known if (found := _ID.fullmatch(one["id"]))]
    return f"{max([len(known), *numbers]) + 1:04d}-{secrets.token_hex(4)}"


def read_attempts(directory: Path) -> list[Attempt]:
    """The attempts that have ended, oldest first; a line cut short by a kill is left out.

    Raises:
        OSError: the ledger cannot be read.
    """
    ended: dict[str, Attempt] = {}
    for line in _lines(directory):
        attempt = _parsed(line)
        known = ended.get(attempt["id"]) if attempt else None
        if attempt and (known is None or _outranks(attempt, known)):
            ended[attempt["id"]] = attempt
    return [*_of_earlier_release(directory), *(ended[key] for key in sorted(ended))]


def attempt_ended(directory: Path, attempt: str) -> Attempt | None:
    """What the ledger says of one attempt, by its id; None: nothing yet. Raises OSError."""
    return next((one for one in read_attempts(directory) if one["id"] == attempt), None)


def add_attempt(
    directory: Path, attempt: str, how: How, text: str, seconds: float | None = None
) -> None:
    """Record that an attempt has ended, where the run now stands.

    Raises:
        OSError: it cannot be written.
    """
    ended: Attempt = {
        "id": attempt,
        "how": how,
        "env_steps": last_env_steps(directory),
        "text": text,
        "seconds": seconds,
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    _append(directory, [json.dumps(ended)])


def merge_attempts(directory: Path, copy: str) -> None:
    """Add what a copy of the ledger has more than the one in ``directory``. Raises OSError."""
    known = set(_lines(directory))
    _append(directory, [line for line in copy.splitlines() if line not in known and _parsed(line)])


def share_attempts(config: Config, directory: Path) -> None:
    """Make the ledger here and its copy on remote storage alike; local storage has one alone.

    Raises:
        OSError: it cannot be read or written.
    """
    mirror = mirror_of(config, directory)
    if mirror is None:
        return
    if not (directory / ATTEMPTS_ARRAY).exists():
        mirror.pull_file(ATTEMPTS_ARRAY, directory / ATTEMPTS_ARRAY)
    copy = (mirror.folder.read(ATTEMPTS) or b"").decode("utf-8", "replace")
    merge_attempts(directory, copy)
    if set(_lines(directory)) - set(copy.splitlines()):
        mirror.push_file(directory / ATTEMPTS)


def _lines(directory: Path) -> list[str]:
    try:
        return (directory / ATTEMPTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _parsed(line: str) -> Attempt | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(found, dict) and found.keys() >= Attempt.__annotations__.keys()
    return found if whole else None


def _outranks(one: Attempt, other: Attempt) -> bool:
    return one["how"] in OWN_WORDS and other["how"] not in OWN_WORDS


def _append(directory: Path, lines: list[str]) -> None:
    if not lines:
        return
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ATTEMPTS).open("a+b") as stream:
        # What a killed writer has left without an end must not spoil the next line.
        stream.seek(0, os.SEEK_END)
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            lines = lines if stream.read(1) == b"\n" else ["", *lines]
        # One write: two processes that append at once do not mix.
        stream.write("".join(f"{line}\n" for line in lines).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _of_earlier_release(directory: Path) -> list[Attempt]:
    """``attempts.json``: one array, without ids."""
    try:
        found: list[Attempt] = json.loads((directory / ATTEMPTS_ARRAY).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return [Attempt({**one, "id": ""}) for one in found]
