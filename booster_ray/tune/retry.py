"""What becomes of a trial whose attempt did not reach its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from booster_ray.store.attempts import (
    Attempt,
    How,
    add_attempt,
    attempt_ended,
    new_attempt,
    read_attempts,
)
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import (
    forget_failure,
    forget_stderr,
    last_stacks,
    last_words,
    read_failure,
)
from booster_ray.store.files import ERROR, STALL, trial_directory
from booster_ray.train.stall import STALLED

SAME: dict[How, int] = {"error": 3, "died": 5, "stalled": 5, "storage": 10}
"""So many attempts that end the same way, without one more report between them, are enough.

A process that vanishes does not say at which step: it may have been killed from outside, again
and again, so it gets more tries than an error, which comes back by itself.
"""
_REASONS = (
    re.compile(r"[^\n.]*(?:low|out) (?:on|of) memory[^\n]*(?:\n[^\n]*threshold[^\n.]*)?"),
    re.compile(r"(?<=exit detail: ).+?(?= Some common causes| There are some potential|\n|$)"),
    re.compile(r"[^\n]*node[^\n]*(?:died|dead|terminated)[^\n.]*"),
)
"""Lines in Ray's errors that say more than that a process has died."""
LONGEST_WAIT = 60.0
DIED = "the trial's process died"
LOST: dict[How, str] = {"died": DIED, "stalled": STALLED}
"""How the texts of attempts begin whose process is gone; they count alike."""


@dataclass(frozen=True)
class RetryDecision:
    """Whether a trial gets another attempt."""

    wait: float | None
    """Seconds until the next attempt; None: there is none."""
    text: str
    """How the attempt ended."""
    storage: bool = False
    """Whether storage is to blame; then the trial is not, and stays unfinished."""


class Retries:
    """Counts the attempts of trials, in their own directories, so that drivers share the count.

    Args:
        root: the sweep's folder.
        max_failures: retries of a trial that fails by itself.
    """

    def __init__(self, root: Path, max_failures: int) -> None:
        self._root, self._max_failures = root, max_failures
        self._begun: dict[int, str] = {}
        """Trial -> id of its newest attempt."""

    def begin(self, number: int, repeat: int = 0) -> str:
        """Before an attempt: forget the last error, so that an error found later is this one's.

        Each of a trial's seeds is counted by itself; of one trial one attempt is under way.

        Returns the attempt's id, by which its process records its end.

        Raises:
            OSError: the trial's directory cannot be reached.
        """
        directory = trial_directory(self._root, number, repeat)
        forget_failure(directory)
        forget_stderr(directory)
        self._begun[number] = new_attempt(directory)
        return self._begun[number]

    def judge(self, number: int, repeat: int = 0) -> RetryDecision:
        """After an attempt that ended in an error or with its process.

        Raises:
            OSError: the trial's directory cannot be reached.
        """
        directory = trial_directory(self._root, number, repeat)
        attempt = self._begun.pop(number)
        if attempt_ended(directory, attempt) is None:  # it could not say so itself
            add_attempt(directory, attempt, *_ending(directory))
        attempts = read_attempts(directory)
        ended = next(one for one in attempts if one["id"] == attempt)
        how, text = ended["how"], ended["text"]
        if how == "preempted":  # it made way in time
            return RetryDecision(0.0, text)
        alike = len(list(takewhile(lambda one: _same(one, ended), reversed(attempts))))
        errors = sum(one["how"] == "error" for one in attempts)
        if alike >= SAME[how] or (how == "error" and errors > self._max_failures):
            if how in LOST:
                times = f" {alike} times after {ended['env_steps']} env steps"
                text = text.replace(LOST[how], LOST[how] + times, 1)
                replace_text(directory / ERROR, text)
            return RetryDecision(None, text, storage=how == "storage")
        wait = 0.0 if alike == 1 or how == "error" else min(2.0 ** (alike - 2), LONGEST_WAIT)
        return RetryDecision(wait, text)


def _ending(directory: Path) -> tuple[How, str]:
    """How an attempt ended, from what the run wrote, or could not write."""
    found = read_failure(directory)
    if found and found.how != "died":
        return ("storage" if found.how == "storage" else "error"), found.text
    if stacks := last_stacks(directory):  # what hung held Python's lock: nobody else could say
        replace_text(directory / STALL, stacks)
        return "stalled", f"{STALLED}: no progress, in code that held Python's lock, see {STALL}"
    words = last_words(directory) or (found.text if found else "")
    return "died", f"{DIED}: {words}" if words else DIED


def _kind(text: str) -> str:
    """The error's type."""
    return text.partition(":")[0]


def reason(told: str) -> str:
    """What Ray says of why a process died, in one line, without its guesses; empty: nothing."""
    for pattern in _REASONS:
        if found := pattern.search(told):
            return " ".join(found[0].split())
    return ""


def _same(one: Attempt, other: Attempt) -> bool:
    if one["env_steps"] != other["env_steps"]:
        return False
    if one["how"] in LOST and other["how"] in LOST:
        return True
    return one["how"] == other["how"] and _kind(one["text"]) == _kind(other["text"])
