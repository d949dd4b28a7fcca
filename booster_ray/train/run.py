"""One run in its own directory: restore, train, record, save. Knows neither Ray nor trackers.

Layout of a run directory: ``config.yaml`` what is trained; ``progress.jsonl`` one line a report;
``step_N/`` the newest full checkpoints; ``best_N/`` the learner at the best official score;
``error.txt`` one line, when the last attempt failed.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from booster_ray import checkpoint
from booster_ray.config import Config, ConfigError
from booster_ray.train.report import TrainingDiverged

PROGRESS = "progress.jsonl"
CONFIG = "config.yaml"
ERROR = "error.txt"
STOP_FILE = "stop-requested"
"""While this file stands in a run's or sweep's folder, runs save a checkpoint and end early."""

_POLL_SECONDS = 0.5


class Run:
    """A resumable run; iterate it to train, one dict of metrics a report.

    Iterating restores the newest whole checkpoint in ``directory`` if there is one, and drops
    the reports that were made after it, so that nothing is recorded twice. Metrics carry
    ``env_steps``, ``wall_seconds`` (training and evaluation, over all attempts) and, after an
    evaluation, ``score`` and the per-task numbers.

    Args:
        config: a resolved config; must equal the one that the directory was begun with.
        directory: created if missing.
        interrupt: when set, the run saves a checkpoint at the next control step and ends early.

    Raises:
        ConfigError: the directory holds a run of another config.
        checkpoint.CheckpointError: checkpoints exist, and all are damaged.
        TrainingDiverged: a loss exploded or stopped being finite; the message names the last
            checkpoint before.
    """

    def __init__(
        self, config: Config, directory: Path, interrupt: threading.Event | None = None
    ) -> None:
        self.directory = directory
        self._config = config
        self._interrupt = interrupt or threading.Event()
        self.interrupted = False
        """Whether iteration ended early, on request."""

    def __iter__(self) -> Iterator[dict[str, float]]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w") as lock:
            # A run whose driver died may still be writing for a moment: wait until it is gone.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._begin()
            try:
                yield from self._train()
            except Exception as error:
                if isinstance(error, TrainingDiverged):
                    error.args = (f"{error}; {self._last_good()}",)
                replace_text(self.directory / ERROR, one_line(error))
                raise

    def _train(self) -> Iterator[dict[str, float]]:
        # JAX loads here, after the caller has set the runtime's environment.
        from booster_ray.train.pretrain import Pretraining

        found = checkpoint.load_newest(self.directory)
        tree, metadata = (found[0], found[1]) if found else (None, {})
        history = self._rewind(metadata.get("env_steps") if found else None)
        best = max((m["score"] for m in history if "score" in m), default=float("-inf"))
        wall, last_save = metadata.get("wall_seconds", 0.0), time.monotonic()
        began = time.monotonic()
        loop = Pretraining(self._config, tree, self._interrupt)
        try:
            for report in loop:
                wall, began = wall + time.monotonic() - began, time.monotonic()
                metrics = {**report.metrics, "wall_seconds": round(wall, 3)}
                # Recorded first: a resume drops what lies beyond its checkpoint, and nothing else.
                self._record(metrics)
                if metrics.get("score", best) > best:
                    best = metrics["score"]
                    self._save_best(report.capture()["learner"], metrics)
                minutes = self._config.checkpoint.every_minutes
                late = minutes is not None and time.monotonic() - last_save >= 60 * minutes
                self.interrupted = self._interrupt.is_set() and not loop.finished
                if report.checkpoint_due or late or self.interrupted:
                    self._save(report.capture(), metrics)
                    last_save = time.monotonic()
                yield metrics
                if self.interrupted:
                    return
                began = time.monotonic()
        finally:
            loop.close()

    def _last_good(self) -> str:
        # A report is checked before it is saved, so what was saved was still sound.
        last = max(self.directory.glob("step_*"), default=None)
        return f"the last good checkpoint is {last}" if last else "no checkpoint was saved before"

    def _begin(self) -> None:
        written = self.directory / CONFIG
        text = self._config.to_yaml()
        if not written.exists():
            replace_text(written, text)
        elif written.read_text(encoding="utf-8") != text:
            raise ConfigError(str(written), "holds a run of another config; choose another name")
        (self.directory / ERROR).unlink(missing_ok=True)

    def _rewind(self, env_steps: int | None) -> list[dict[str, float]]:
        """Keep the recorded reports up to ``env_steps`` (none without a checkpoint)."""
        reached = -1 if env_steps is None else env_steps
        kept = [m for m in read_progress(self.directory) if m["env_steps"] <= reached]
        lines = "".join(json.dumps(m) + "\n" for m in kept)
        replace_text(self.directory / PROGRESS, lines)
        return kept

    def _record(self, metrics: dict[str, float]) -> None:
        with (self.directory / PROGRESS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")

    def _metadata(self, metrics: dict[str, float]) -> dict[str, Any]:
        finite = {k: v for k, v in metrics.items() if abs(v) < float("inf")}
        return {"config": self._config.to_dict(), "digest": self._config.digest(), **finite}

    def _save(self, tree: dict[str, Any], metrics: dict[str, float]) -> None:
        path = self.directory / f"step_{int(metrics['env_steps']):012d}"
        if path.exists():
            shutil.rmtree(path)  # damaged: the run was restored from one before it
        checkpoint.save(path, tree, self._metadata(metrics))
        checkpoint.prune(self.directory, self._config.checkpoint.keep)

    def _save_best(self, learner: dict[str, Any], metrics: dict[str, float]) -> None:
        path = self.directory / f"best_{int(metrics['env_steps']):012d}"
        if not path.exists():
            checkpoint.save(path, {"learner": learner}, self._metadata(metrics))
        checkpoint.prune(self.directory, 1, pattern="best_*")


def train_reporting(
    config: Config, directory: Path, stop_file: Path, report: Callable[[dict[str, Any]], object]
) -> None:
    """Run to the end, or until ``stop_file`` appears, passing every report on.

    Reports carry ``finished``: whether the budget is spent.
    """
    interrupt, ended = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            if stop_file.exists():
                interrupt.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        for metrics in Run(config, directory, interrupt):
            report({**metrics, "finished": metrics["env_steps"] >= config.training.env_steps})
    finally:
        ended.set()


def one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def replace_text(path: Path, text: str) -> None:
    """Write a small text file so that readers see the old or the new one, never half."""
    temp = path.with_name(f".{path.name}.tmp")
    temp.write_text(text, encoding="utf-8")
    temp.replace(path)


def read_progress(directory: Path) -> list[dict[str, float]]:
    """The reports recorded in a run directory; a line cut short by a kill is left out."""
    try:
        lines = (directory / PROGRESS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    reports = []
    for line in lines:
        try:
            reports.append(json.loads(line))
        except ValueError:
            break
    return reports


def best_checkpoint(directory: Path) -> Path | None:
    """The run's ``best_N`` directory, or None before the first evaluation."""
    return max(directory.glob("best_*"), default=None)
