"""Notices that a machine will be taken away, and the checkpoint that is written before it is."""

from __future__ import annotations

import http.client
import logging
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from booster_ray.config import Config, Trainer
from booster_ray.runtime.signals import on_signal
from booster_ray.store.failure import add_attempt
from booster_ray.train.run import train_reporting

METADATA_HOST = "GCE_METADATA_HOST"
"""Environment variable that Google's own clients read; names another metadata server."""
GOOGLE_HOST = "metadata.google.internal"
METADATA_PATH = "/computeMetadata/v1/instance/preempted"
PRODUCT = Path("/sys/class/dmi/id/product_name")
LONG_POLL_SECONDS = 60
POLL_SECONDS = 1.0
NOTICE_FILE = "preemption-notice"
"""Appears in a run's folder when something else has heard a notice; any scheduler may write it."""

_log = logging.getLogger(__name__)


class Preempted(RuntimeError):
    """A run saved a checkpoint and ended because its machine will be taken away."""


@dataclass(frozen=True)
class Notice:
    """That this process will end."""

    source: str
    deadline: float | None = None
    """Unix time at which the machine goes; None: any moment now."""
    heard: float = field(default_factory=time.monotonic)


Notify = Callable[[Notice], None]
Source = Callable[[Notify, threading.Event], None]
"""Waits for a notice until the event is set; runs in a thread of its own and raises nothing."""


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
    config: Config, directory: Path, stop_file: Path, report: Callable[[dict[str, Any]], object]
) -> None:
    """:func:`train_reporting`, which saves and ends when a notice of preemption comes.

    The last report then carries ``preemption_save_seconds``, the time since the notice, which
    ``attempts.json`` records too.

    Raises:
        Preempted: it ended so; from its checkpoint it goes on elsewhere.
    """
    interrupt, notice_file = threading.Event(), directory / NOTICE_FILE
    notice_file.unlink(missing_ok=True)
    sources: list[Source] = [*machine_sources(config.trainer), NoticeFile(notice_file)]
    with Watch(config.trainer, interrupt.set, sources) as watch:
        seconds: float | None = None

        def pass_on(metrics: dict[str, Any]) -> None:
            nonlocal seconds
            # The run has saved by the time it makes its last report.
            if interrupt.is_set() and watch.notice and not metrics["finished"]:
                seconds = watch.saved()
                metrics = {**metrics, "preemption_save_seconds": seconds}
            report(metrics)

        train_reporting(config, directory, stop_file, pass_on, interrupt)
        if seconds is not None and watch.notice and not stop_file.exists():
            source = watch.notice.source
            add_attempt(directory, "preempted", source, round(seconds, 3))
            raise Preempted(f"{source}: saved {seconds:.1f} s after the notice")


def machine_sources(trainer: Trainer) -> list[Source]:
    """The notices that this machine can get and the config heeds, beside signals."""
    sources: list[Source] = []
    if trainer.preemption_notice == "none":
        return sources
    if in_ray():
        sources.append(ray_drain)
    if host := metadata_host():
        sources.append(GoogleMetadata(host))
    return sources


def in_ray() -> bool:
    """Whether this process belongs to a Ray cluster."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


class NoticeFile:
    """A file that appears, at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, notify: Notify, ended: threading.Event) -> None:
        """Look for it until it is there."""
        while not ended.wait(POLL_SECONDS / 2):
            if self._path.exists():
                notify(Notice(str(self._path.name)))
                return


def ray_drain(notify: Notify, ended: threading.Event) -> None:
    """Ray drains the node that this process runs on, as before a planned end of it.

    Ray Train's ``get_preemption_info`` reads the same state, but only within its workers.
    """
    import ray
    from ray._private.state import state

    node = ray.get_runtime_context().get_node_id()
    while not ended.wait(POLL_SECONDS):
        try:
            draining = state.get_draining_nodes()
        except Exception as error:  # whatever Ray raises while its head is away
            _log.debug("cannot ask for draining nodes: %r", error)
            continue
        if node in draining:
            milliseconds = draining[node]  # 0: none given
            notify(Notice("Ray drains the node", milliseconds / 1000 if milliseconds else None))
            return


def metadata_host() -> str | None:
    """Google's metadata server, where this machine is Google's or the environment names one."""
    if named := os.environ.get(METADATA_HOST):
        return named
    try:
        product = PRODUCT.read_text(encoding="utf-8")
    except OSError:
        return None
    return GOOGLE_HOST if "Google" in product else None


class GoogleMetadata:
    """Compute Engine's notice, about 30 s before a preemptible machine goes.

    https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption

    Args:
        host: the metadata server, ``name`` or ``name:port``.
    """

    def __init__(self, host: str) -> None:
        self._url = f"http://{host}{METADATA_PATH}"
        # The server is this machine's own, on a link-local address that no proxy knows.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def __call__(self, notify: Notify, ended: threading.Event) -> None:
        """Ask, and be answered when the state changes."""
        etag, pause = "", 1.0
        while not ended.is_set():
            try:
                preempted, etag = self._ask(etag)
            except (OSError, http.client.HTTPException) as error:
                _log.debug("%s: %r", self._url, error)
                ended.wait(pause)
                pause = min(2 * pause, 30.0)
                continue
            pause = 1.0
            if preempted:
                notify(Notice("Google preempts the machine"))
                return
            if not etag:  # nothing to wait for a change of
                ended.wait(POLL_SECONDS)

    def _ask(self, etag: str) -> tuple[bool, str]:
        """Whether preempted, and the tag of this state; waits for a change of the tagged one."""
        query = f"?wait_for_change=true&timeout_sec={LONG_POLL_SECONDS}&last_etag={etag}"
        url = self._url + (query if etag else "")
        asked = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with self._open(asked, timeout=LONG_POLL_SECONDS + 10) as answer:
            return answer.read().strip() == b"TRUE", answer.headers.get("ETag", "")
