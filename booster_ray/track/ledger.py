"""A run's reports as trackers read them, from the files that the run itself keeps.

``progress.jsonl`` is the queue between training and trackers: it is on disk, it loses nothing, and
training never waits for a reader. After a kill it is cut back to the newest checkpoint, and what
is then made again is the same: a tracker that takes only what lies beyond its newest env step gets
everything once.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from booster_ray.store.files import PROGRESS, SYSTEM

VIDEOS = "videos"
"""Folder of films, ``ENV_STEPS-NAME.mp4``."""
BYTES = 4 * 2**20
"""Read of a file at a time."""


class Row(NamedTuple):
    """What a tracker is told at one env step."""

    env_steps: int
    metrics: dict[str, float]
    """A report, the newest readings of the machine, and ``best_score`` so far; finite."""
    videos: dict[str, Path]
    """Made since the row before."""


class Tail:
    """New whole lines of a file of JSON objects that grows, or is written anew."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, 0
        self._file: tuple[int, int] | None = None
        """Device and inode of what was read last."""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Lines since the last call, of a few MiB at most, and whether they begin at the start."""
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._file and found.st_size == self._place:
                return [], False
            with self._path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                file = found.st_dev, found.st_ino
                anew = file != self._file or found.st_size < self._place
                self._place, self._file = (0 if anew else self._place), file
                stream.seek(self._place)
                data = stream.read(BYTES)
        except FileNotFoundError:
            return [], False
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        return [one for line in whole.splitlines() if (one := _object(line))], anew


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None  # a disk that was full
    return found if isinstance(found, dict) else None


class Ledger:
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
