"""One run in its own directory: restore, train, record, save. Knows neither Ray nor trackers.

Layout of a run directory: ``config.yaml`` what is trained; ``run_id`` what trackers know it by;
``progress.jsonl`` one line a report; ``step_N/`` the newest full checkpoints, whose replays lie in
``segments/``; ``best_N/`` the learner at the best official score, or another ``models.metric``;
``error.txt``, ``error.json`` and ``traceback.txt``, when the last attempt failed. With remote
storage the directory is copied there, and fetched from there where it is not.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from booster_ray.config import Config, ConfigError, load
from booster_ray.config.models import value
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.checkpoint.retention import WITHOUT_REPLAY, retire
from booster_ray.store.checkpoint.store import discard
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import (
    apart,
    forget_failure,
    record_failure,
    recorded,
    storing,
)
from booster_ray.store.files import (
    CONFIG,
    PROGRESS,
    RECORDS,
    RUN_LOCK,
    best_checkpoint,
    keep_run_id,
    read_progress,
    sweep_root,
)
from booster_ray.store.folder import WRITER, mirror_of, place_of
from booster_ray.store.lease import take
from booster_ray.store.lock import locked
from booster_ray.store.mirror import Mirror, token_in, write_epoch
from booster_ray.store.remote import StorageError, is_remote
from booster_ray.store.writer import Writer
from booster_ray.train.report import Report, TrainingDiverged

_POLL_SECONDS = 0.5


class Run:
    """A resumable run; iterate it to train, one dict of metrics a report.

    Iterating restores the newest whole checkpoint in ``directory`` if there is one, and drops
    the reports that were made after it, so that nothing is recorded twice. Metrics carry
    ``env_steps``, ``wall_seconds`` (training and evaluation, over all attempts) and, after an
    evaluation, ``score`` and the per-task numbers.

    Checkpoints are written while training goes on. A write that fails is warned of and tried
    again; only the last one, at the end or on request, is waited for, and must succeed. It is on
    disk before its report is passed on.

    Args:
        config: a resolved config; must equal the one that the directory was begun with.
        directory: created if missing.
        interrupt: when set, the run saves a checkpoint after the control step (on the device:
            dispatch) or evaluation under way, and ends early.

    Raises:
        ConfigError: the directory holds a run of another config.
        CheckpointError: checkpoints exist, and all are damaged.
        LeaseLost: another attempt at the run has begun; nothing more is written.
        StorageError: the last checkpoint or a record cannot be written, or remote storage cannot be
            reached. An OSError that the loop raises stays what it is.
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
        self.checkpoints: Writer | None = None
        """Of the newest iteration; says what checkpoints cost."""

    def __iter__(self) -> Iterator[dict[str, float]]:
        with ExitStack() as held:
            writer = self._opened(held)
            try:
                with recorded(self.directory):
                    yield from self._sound(writer)
            finally:
                writer.close()

    def _opened(self, held: ExitStack) -> Writer:
        try:
            with storing():
                self.directory.mkdir(parents=True, exist_ok=True)
                # A run whose driver died may still be writing for a moment: wait until it is gone.
                held.enter_context(locked(self.directory / RUN_LOCK))
                place = place_of(self._config, self.directory)
                # Whoever asks for the run last has it: an attempt before this one may still live,
                # cut off from its driver.
                self._lease = take(place, WRITER, over=True, token=token_in(self.directory))
                mirror = mirror_of(self._config, self.directory, RECORDS, self._lease)
                if mirror:
                    mirror.pull(self.directory)
                write_epoch(self.directory, self._lease.epoch, self._lease.owner.token)
                self._begin(mirror)
        except (StorageError, CheckpointError) as error:
            record_failure(self.directory, error)
            raise
        keep = self._config.checkpoint.keep
        self.checkpoints = Writer(self.directory, keep, mirror, (PROGRESS,), self._lease)
        return self.checkpoints

    def _sound(self, writer: Writer) -> Iterator[dict[str, float]]:
        try:
            yield from self._train(writer)
        except TrainingDiverged as error:
            with suppress(OSError):  # a sound checkpoint may be on its way yet
                writer.finish()
            error.args = (f"{error}; {self._last_good()}",)
            raise

    def _train(self, writer: Writer) -> Iterator[dict[str, float]]:
        with storing():
            found = writer.restore()
            tree, metadata = (found[0], found[1]) if found else (None, {})
            self._rewind(metadata.get("env_steps") if found else None)
            self._run_id = keep_run_id(self.directory, metadata.get("run_id"))
            best = self._best_score(writer, tree, metadata)
        if metadata.get(WITHOUT_REPLAY):
            self._must_be_over(found)
            return
        wall, last_save = metadata.get("wall_seconds", 0.0), time.monotonic()
        began = time.monotonic()
        loop = self._loop(tree)
        del found, tree  # the loop has what it needs of it
        try:
            for report in loop:
                wall, began = wall + time.monotonic() - began, time.monotonic()
                metrics = {**report.metrics, "wall_seconds": round(wall, 3)}
                with storing():
                    # Recorded first: a resume drops what lies beyond its checkpoint, nothing else.
                    if not report.unfinished:
                        self._record(metrics)
                    if (reached := self._reached(metrics)) > best:
                        best = reached
                        self._save_best(writer, report, metrics)
                    minutes = self._config.checkpoint.every_minutes
                    late = minutes is not None and time.monotonic() - last_save >= 60 * minutes
                    self.interrupted = self._interrupt.is_set() and not loop.finished
                    if report.checkpoint_due or late or self.interrupted:
                        name = f"step_{int(metrics['env_steps']):012d}"
                        writer.save(name, apart(report.capture), self._metadata(metrics))
                        last_save = time.monotonic()
                    else:
                        writer.retry()
                    if self.interrupted or loop.finished:
                        writer.finish()
                    if loop.finished and self._is_last():
                        retire(self.directory)
                yield metrics
                if self.interrupted:
                    return
                began = time.monotonic()
        finally:
            loop.close()

    def _is_last(self) -> bool:
        """Whether nothing is left to do for this run once its budget is spent."""
        return bool(sweep_root(self.directory)) and not self._config.checkpoint.keep_replay

    def _must_be_over(self, found: Any) -> None:
        """Refuse to train on from a checkpoint whose replay was dropped."""
        _, metadata, path = found
        budget = self._config.training.env_steps
        if metadata["env_steps"] < budget:
            raise CheckpointError(
                f"{path}: was kept without its replay, and cannot go on to {budget} env steps; "
                "begin another sweep with checkpoint.keep_replay=true"
            )

    def _loop(self, tree: dict[str, Any] | None) -> Any:
        # JAX and torch load here, after the caller has set the runtime's environment.
        from booster_ray.train.runner import Runner

        return Runner(self._config, tree, self._interrupt)

    def _last_good(self) -> str:
        # A report is checked before it is saved, so what was saved was still sound.
        last = max(self.directory.glob("step_*"), default=None)
        return f"the last good checkpoint is {last}" if last else "no checkpoint was saved before"

    def _begin(self, mirror: Mirror | None) -> None:
        written = self.directory / CONFIG
        text = self._config.to_yaml()
        if not written.exists():
            replace_text(written, text)
            if mirror:
                mirror.push_file(written)  # from now on the name is taken
        elif written.read_text(encoding="utf-8") != text:
            if not load(written).base().trains_like(self._config):
                raise ConfigError(
                    str(written), "holds a run of another config; choose another name"
                )
            replace_text(written, text)  # it moved: other storage, worker, memory …
        forget_failure(self.directory)

    def _rewind(self, env_steps: int | None) -> None:
        """Keep the recorded reports up to ``env_steps`` (none without a checkpoint)."""
        reached = -1 if env_steps is None else env_steps
        kept = [m for m in read_progress(self.directory) if m["env_steps"] <= reached]
        lines = "".join(json.dumps(m) + "\n" for m in kept)
        replace_text(self.directory / PROGRESS, lines)

    def _record(self, metrics: dict[str, float]) -> None:
        if not is_remote(self._config.storage):  # else nobody but this process writes the file
            self._lease.check()
        with (self.directory / PROGRESS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")

    def _metadata(self, metrics: dict[str, float]) -> dict[str, Any]:
        finite = {k: v for k, v in metrics.items() if abs(v) < float("inf")}
        told = {"run_id": self._run_id, "config": self._config.to_dict()}
        return {**told, "digest": self._config.digest(), **finite}

    def _save_best(self, writer: Writer, report: Report, metrics: dict[str, float]) -> None:
        name = f"best_{int(metrics['env_steps']):012d}"
        capture = apart(report.capture)
        writer.save(name, lambda: {"learner": capture()["learner"]}, self._metadata(metrics))

    def _reached(self, metrics: dict[str, Any]) -> float:
        """What the best policy is chosen by; -inf where it was not measured."""
        found = value(metrics, self._config.models.metric)
        return float("-inf") if found is None else found

    def _best_score(
        self, writer: Writer, tree: dict[str, Any] | None, metadata: dict[str, Any]
    ) -> float:
        """What ``best_N`` reached; a damaged one is written anew, or forgotten if it cannot be."""
        path = best_checkpoint(self.directory)
        if path is None:
            return float("-inf")
        try:
            return self._reached(checkpoint.load(path)[1])
        except CheckpointError as error:
            warnings.warn(f"damaged checkpoint: {error}", stacklevel=2)
        if tree is not None and path.name == f"best_{int(metadata['env_steps']):012d}":
            writer.save(path.name, lambda: {"learner": tree["learner"]}, metadata)
            return self._reached(metadata)
        discard(path)
        return float("-inf")


def train_reporting(
    config: Config,
    directory: Path,
    stop_file: Path,
    report: Callable[[dict[str, Any]], object],
    interrupt: threading.Event | None = None,
) -> None:
    """Run to the end, or until ``stop_file`` appears or ``interrupt`` is set, reporting all.

    Reports carry ``finished``: whether the budget is spent.
    """
    from booster_ray.train.watch import Watching

    interrupt, ended = interrupt or threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            if stop_file.exists():
                interrupt.set()

    threading.Thread(target=watch, daemon=True).start()
    run = Run(config, directory, interrupt)
    try:
        with Watching(config, directory) as watching:
            for metrics in run:
                watching.report(metrics, run.checkpoints.stalled_seconds if run.checkpoints else 0)
                spent = metrics["env_steps"] >= config.training.env_steps
                report({**metrics, "finished": spent and not run.interrupted})
    finally:
        ended.set()
