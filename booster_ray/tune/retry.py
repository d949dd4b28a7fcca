"""What becomes of a trial whose attempt did not reach its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from booster_ray.store.durable import replace_text
from booster_ray.store.failure import (
    Attempt,
    How,
    add_attempt,
    forget_failure,
    forget_stderr,
    last_words,
    read_attempts,
    read_failure,
)
from booster_ray.store.files import ERROR
from booster_ray.tune.trial import trial_directory

SAME: dict[How, int] = {"error": 3, "died": 5, "storage": 10}
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
        self._known: dict[int, int] = {}
        """Trial -> attempts recorded when its newest one began."""

    def begin(self, number: int) -> None:
        """Before an attempt: forget the last error, so that an error found later is this one's.

        Raises:
            OSError: the trial's directory cannot be reached.
        """
        directory = trial_directory(self._root, number)
        forget_failure(directory)
        forget_stderr(directory)
        self._known[number] = len(read_attempts(directory))

    def judge(self, number: int) -> RetryDecision:
        """After an attempt that ended in an error or with its process.

        Raises:
            OSError: the trial's directory cannot be reached.
        """
        directory = trial_directory(self._root, number)
        attempts = read_attempts(directory)
        if len(attempts) > self._known.get(number, 0) and attempts[-1]["how"] == "preempted":
            return RetryDecision(
                0.0, attempts[-1]["text"]
            )  # it made way in time, and said so itself
        how, text = _ending(directory)
        attempts = add_attempt(directory, how, text)
        self._known[number] = len(attempts)
        alike = len(list(takewhile(lambda one: _same(one, attempts[-1]), reversed(attempts))))
        errors = sum(one["how"] == "error" for one in attempts)
        if alike >= SAME[how] or (how == "error" and errors > self._max_failures):
            if how == "died":
                times = f" {alike} times after {attempts[-1]['env_steps']} env steps"
                text = text.replace(DIED, DIED + times, 1)
                replace_text(directory / ERROR, text)
            return RetryDecision(None, text, storage=how == "storage")
        wait = 0.0 if alike == 1 or how == "error" else min(2.0 ** (alike - 2), LONGEST_WAIT)
        return RetryDecision(wait, text)


def _ending(directory: Path) -> tuple[How, str]:
    """How an attempt ended, from what the run wrote, or could not write."""
    found = read_failure(directory)
    if found and found.how != "died":
        return ("storage" if found.how == "storage" else "error"), found.text
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
    return all(one[key] == other[key] for key in ("how", "env_steps")) and (
        _kind(one["text"]) == _kind(other["text"])
    )
