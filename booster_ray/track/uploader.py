"""Sends the reports of all runs of a folder to one tracker, on a thread of its own."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from booster_ray.store.failure import one_line
from booster_ray.store.files import PROGRESS, SYSTEM, last_report
from booster_ray.store.tail import Tail
from booster_ray.track.sink import Reopen, Say, Sink
from booster_ray.track.tracked_runs import Row, State, TrackedFolder, TrackedRun

VIDEOS = "videos"
"""Folder of films, ``ENV_STEPS-NAME.mp4``."""


class RunRows:
    """The rows of one run, each given once.

    Args:
        directory: the run's.
        beyond: env steps up to which rows are known already.
    """

    def __init__(self, directory: Path, beyond: int = -1) -> None:
        self._directory, self.given = directory, beyond
        self._reports, self._system = Tail(directory / PROGRESS), Tail(directory / SYSTEM)
        self._readings: list[dict[str, Any]] = []
        self._films: set[str] = set()
        self.best_score: float | None = None
        """Over all that was read."""

    def read(self) -> list[Row]:
        """Rows that are new, in order; not all at once where there are many."""
        while True:
            reports, anew = self._reports.read()
            if not reports:
                return []
            if anew:
                self.best_score = None
            if rows := self._rows(reports):
                return rows

    def _rows(self, reports: list[dict[str, Any]]) -> list[Row]:
        self._readings += self._system.read()[0]
        films, rows = _films(self._directory), []
        for report in reports:
            steps = int(report["env_steps"])
            metrics = {**self._reading(steps), **report}
            if "score" in report and math.isfinite(report["score"]):
                self.best_score = max(report["score"], self.best_score or -math.inf)
                metrics["best_score"] = self.best_score
            if steps > self.given:
                rows.append(Row(steps, _numbers(metrics), self._due(films, steps)))
                self.given = steps
        return rows

    def _reading(self, steps: int) -> dict[str, Any]:
        """What is known of the machine by now and was not told before."""
        told: dict[str, Any] = {}
        while self._readings and self._readings[0]["env_steps"] <= steps:
            told |= self._readings.pop(0)
        return told

    def _due(self, films: list[tuple[int, str, Path]], steps: int) -> dict[str, Path]:
        due = {name: path for made, name, path in films
               if made <= steps and path.name not in self._films}  # fmt: skip
        self._films |= {path.name for path in due.values()}
        return due


def _films(directory: Path) -> list[tuple[int, str, Path]]:
    """Env steps, name and path of each film, oldest first."""
    found = []
    for path in (directory / VIDEOS).glob("*-*.mp4"):
        steps, _, name = path.stem.partition("-")
        if steps.isdigit():
            found.append((int(steps), name, path))
    return sorted(found)


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


POLL_SECONDS = 2.0
"""How late a report may be told."""
LONGEST_PAUSE = 60.0
"""Between two tries to reach a sink."""
REST_SECONDS = 30.0
"""Between two looks at a run that has ended."""
UNWELL_SECONDS = 2.0
"""Wait at the end for a sink that could not be reached last."""

_log = logging.getLogger(__name__)


@dataclass
class _Stream:
    """What one run's rows have come to."""

    subject: TrackedRun
    run_rows: RunRows | None = None
    """None: to be opened."""
    sent: int = -1
    state: State | None = None
    """As told last."""
    closed: bool = False
    looked: float = 0.0
    """When, on the monotonic clock."""
    best_score: float | None = None


class Uploader:
    """Reads, sends, and begins again where a sink fails.

    Args:
        name: of the sink.
        make: builds it, in the uploader's thread; ImportError: its package is missing.
        board: the runs, which uploaders may share.
        say: told once when it cannot be reached.
    """

    def __init__(self, name: str, make: Callable[[], Sink], board: TrackedFolder, say: Say) -> None:
        self.name, self._make, self._board, self._say = name, make, board, say
        self._sink: Sink | None = None
        self._streams: dict[str, _Stream] = {}
        self._order: deque[str] = deque()
        self._closing, self._told, self._pause = threading.Event(), False, 0.0
        self.failed = False
        """Whether the last try did."""
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Send what is left and end; returns at once, see :meth:`join`."""
        self._closing.set()

    def join(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; returns whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def left(self) -> int:
        """Rows that the sink has not got, as far as is known."""
        left = 0
        for subject in self._board.subjects():
            stream = self._streams.get(subject.id)
            run_rows = RunRows(subject.directory, stream.sent if stream else -1)
            while rows := run_rows.read():
                left += len(rows)
        return left

    def farewell(self) -> str:
        """See :class:`Sink`."""
        return self._sink.farewell() if self._sink else ""

    # -- in the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            try:
                more = self._round(closing)
                self._pause, self.failed = 0.0, False
            except ImportError as error:
                self.failed = True
                self._say(f"{self.name} is not told of anything: {one_line(error)}")
                return
            except Exception as error:  # whatever trackers raise
                self.failed = True
                _log.warning("%s", self.name, exc_info=True)
                self._complain(error)
                if closing:
                    return
                self._pause = min(2 * self._pause or 1.0, LONGEST_PAUSE)
                more = False
            if closing and not more:
                return
            if not more:
                self._closing.wait(max(self._pause, POLL_SECONDS))

    def _complain(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            where = f"{self.name} ({self._sink.where})" if self._sink else self.name
            text = "training goes on, what it misses is kept and sent later"
            self._say(f"{where} cannot be told of reports: {one_line(error)[:300]}; {text}.")

    def _round(self, closing: bool) -> bool:
        """Serve every run once; returns whether there may be more to read at once."""
        if self._sink is None:
            self._sink = self._make()
        for subject in self._board.subjects():
            if subject.id not in self._streams:
                self._streams[subject.id] = _Stream(subject)
                self._order.append(subject.id)
        more = False
        for _ in range(len(self._order)):
            stream = self._streams[self._order[0]]
            self._order.rotate(-1)  # so that one that fails does not keep others from their turn
            try:
                more |= self._serve(self._sink, stream, closing)
            except Exception:
                stream.run_rows = stream.state = None  # what it holds, it says when it is opened
                raise
        return more

    def _serve(self, sink: Sink, stream: _Stream, closing: bool) -> bool:
        subject = stream.subject
        if stream.closed and not closing and time.monotonic() - stream.looked < REST_SECONDS:
            return False
        stream.looked = time.monotonic()
        state = self._with_best(subject, self._board.state(subject))
        if stream.run_rows is None:
            stream.run_rows = self._opened(sink, stream)
        rows = stream.run_rows.read()
        if rows:
            try:
                sink.send(subject, rows)
            except Reopen:
                stream.run_rows = None
                return True
            stream.sent, stream.closed = rows[-1].env_steps, False
        stream.best_score = stream.run_rows.best_score
        if state != stream.state:
            sink.update(subject, state)
            stream.state = state
        if not rows and not stream.closed and (state.ended or closing):
            sink.close(subject, state)
            stream.closed = True
        return bool(rows)

    def _opened(self, sink: Sink, stream: _Stream) -> RunRows:
        newest = last_report(stream.subject.directory)
        stream.sent = sink.open(stream.subject, int(newest["env_steps"]) if newest else -1)
        return RunRows(stream.subject.directory, stream.sent)

    def _with_best(self, subject: TrackedRun, state: State) -> State:
        """For a sweep: the best score of its trials too, each the mean over its seeds."""
        scores: dict[Path, list[float]] = {}
        for stream in self._streams.values():
            folder = stream.subject.directory
            trial = folder.parent if stream.subject.kind == "seed" else folder
            if stream.best_score is not None:
                scores.setdefault(trial, []).append(stream.best_score)
        if subject.kind != "sweep" or not scores:
            return state
        best = max(sum(each) / len(each) for each in scores.values())
        tags = {**state.tags, "best_score": f"{best:.4g}"}
        return State(state.status, tags, state.note, state.files, state.alerts)


def wait_for(uploaders: list[Uploader], seconds: float) -> list[Uploader]:
    """Let uploaders end; returns those that have not, for want of time or of an answer."""
    began, waiting = time.monotonic(), list(uploaders)
    while waiting:
        waited = time.monotonic() - began
        waiting = [
            uploader for uploader in waiting
            if not uploader.join(0.05) and waited < (UNWELL_SECONDS if uploader.failed else seconds)
        ]  # fmt: skip
    return [uploader for uploader in uploaders if not uploader.join(0)]
