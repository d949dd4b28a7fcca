"""The checkpoint that is written before a machine is taken away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from booster_ray.config import Config, Trainer
from booster_ray.runtime.signals import on_signal
from booster_ray.store.attempts import add_attempt, new_attempt, share_attempts
from booster_ray.store.files import NOTICE_FILE
from booster_ray.train.notices import Notice, NoticeFile, Source, machine_sources
from booster_ray.train.run import train_reporting
from booster_ray.train.stall import ended_if_stalled

_log = logging.getLogger(__name__)


class Preempted(RuntimeError):
    """A run saved a checkpoint and ended because its machine will be taken away."""


class Watch:
    """Context manager that calls ``make_way`` in time when a notice comes, once.

    A notice with a deadline leaves the run alone until ``trainer.grace_seconds`` before it.

    Args:
        trainer: which notices to heed, and how long saving may take.
        make_way: lets the run save and end; must return at once.
        sources: beside signals; None: those that this machine has.
    """

    def __init__(
        self,
        trainer: Trainer,
        make_way: Callable[[], object],
        sources: list[Source] | None = None,
    ) -> None:
        self.notice: Notice | None = None
        """The first that came."""
        self._grace, self._make_way = trainer.grace_seconds, make_way
        self._sources = machine_sources(trainer) if sources is None else sources
        self._ended, self._stack = threading.Event(), ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(on_signal(lambda name: self._hear(Notice(name))))
        for source in self._sources:
            threading.Thread(target=source, args=(self._hear, self._ended), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._stack.close()

    def _hear(self, notice: Notice) -> None:
        if self.notice is not None:
            return
        self.notice = notice
        left = 0.0 if notice.deadline is None else notice.deadline - time.time() - self._grace
        if left <= 0:
            self._make_way()
            return
        timer = threading.Timer(left, self._make_way)
        timer.daemon = True
        timer.start()

    def saved(self) -> float:
        """Seconds from the notice until now, when the checkpoint is written; logs them."""
        assert self.notice is not None
        seconds = time.monotonic() - self.notice.heard
        late = seconds > self._grace
        _log.log(
            logging.WARNING if late else logging.INFO,
            "%s: checkpoint saved %.1f s after the notice (grace %g s)",
            self.notice.source, seconds, self._grace,
        )  # fmt: skip
        return seconds


def train_preemptibly(
    config: Config,
    directory: Path,
    stop_file: Path,
    report: Callable[[dict[str, Any]], object],
    attempt: str | None = None,
    more_sources: Sequence[Source] = (),
) -> None:
    """:func:`train_reporting`, which saves and ends when a notice of preemption comes.

    The last report then carries ``preemption_save_seconds``, the time since the notice, which
    the ledger of attempts records too, under the id ``attempt`` (None: one is made).
    ``more_sources`` of notices are listened to beside this machine's. Where the run
    makes no progress any more, its process ends, see :func:`ended_if_stalled`.

    Raises:
        Preempted: it ended so; from its checkpoint it goes on elsewhere.
    """
    with suppress(OSError):  # the run itself will say that its storage is away
        share_attempts(config, directory)
    attempt = attempt or new_attempt(directory)
    interrupt, notice_file = threading.Event(), directory / NOTICE_FILE
    notice_file.unlink(missing_ok=True)
    sources: list[Source] = [
        *machine_sources(config.trainer),
        NoticeFile(notice_file),
        *more_sources,
    ]
    with Watch(config.trainer, interrupt.set, sources) as watch:
        seconds: float | None = None

        def pass_on(metrics: dict[str, Any]) -> None:
            nonlocal seconds
            # The run has saved by the time it makes its last report.
            if interrupt.is_set() and watch.notice and not metrics["finished"]:
                seconds = watch.saved()
                metrics = {**metrics, "preemption_save_seconds": seconds}
            report(metrics)

        with ended_if_stalled(config, directory, attempt):
            train_reporting(config, directory, stop_file, pass_on, interrupt)
        if seconds is not None and watch.notice and not stop_file.exists():
            source = watch.notice.source
            add_attempt(directory, attempt, "preempted", source, round(seconds, 3))
            with suppress(OSError):  # the checkpoint is there, and counts more
                share_attempts(config, directory)
            raise Preempted(f"{source}: saved {seconds:.1f} s after the notice")
