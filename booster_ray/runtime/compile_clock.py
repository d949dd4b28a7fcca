"""How long JAX has traced and compiled, so that a rate of training is of training alone."""

from __future__ import annotations

import threading
import time
from typing import Any

EVENTS = "/jax/core/compile/"
"""What the names of JAX's events begin with that trace, lower and compile; each has a duration."""


class CompileClock:
    """Spans of this process's time in which JAX compiled, from the first :meth:`start` on.

    Spans that overlap count once: a function is traced within another's trace.
    """

    def __init__(self) -> None:
        self._lock, self._listening = threading.Lock(), False
        self._spans: list[tuple[float, float]] = []
        """(begin, end) on the monotonic clock, disjoint, oldest first."""

    def start(self) -> None:
        """Listen to JAX; again: nothing."""
        import jax

        with self._lock:
            if self._listening:
                return
            self._listening = True
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith(EVENTS):
            now = time.monotonic()
            self.add(now - duration_secs, now)

    def add(self, begin: float, end: float) -> None:
        """A span that has just ended."""
        with self._lock:
            while self._spans and self._spans[-1][1] >= begin:
                begin = min(begin, self._spans.pop()[0])
            self._spans.append((begin, end))

    def seconds_since(self, moment: float) -> float:
        """Seconds of compilation after ``moment``, of :func:`time.monotonic`."""
        with self._lock:
            return sum(end - max(begin, moment) for begin, end in self._spans if end > moment)


CLOCK = CompileClock()
"""This process's."""
