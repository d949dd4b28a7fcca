"""Weights & Biases, for watching: every trial a run of its own, grouped by the sweep."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from booster_ray.config.experiments import EXPERIMENT
from booster_ray.config.tracking import Wandb
from booster_ray.store.failure import one_line
from booster_ray.track.sink import Reopen, Say
from booster_ray.track.tracked_runs import Row, State, TrackedRun

MAGIC, HEADER, BLOCK = b":W&B", 7, 32 * 1024
WHOLE, LAST = 1, 4
"""Kinds of pieces that end a record."""


def records(file: Path) -> Iterator[Any]:
    """Records of a ``.wandb`` file, up to where its writer was killed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """
    from wandb.proto import wandb_internal_pb2

    data = file.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{file} is no file of W&B's")
    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        if (rest := BLOCK - place % BLOCK) < HEADER:
            place += rest  # a piece never begins so near a block's end
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        end = place + HEADER + length
        if kind == 0 or end > len(data):
            return
        parts += data[place + HEADER : end]
        place = end
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(file: Path) -> Iterator[dict[str, Any]]:
    """The rows that were logged. Raises as :func:`records`."""
    for record in records(file):
        if record.HasField("history"):
            yield {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }


def last_step(file: Path) -> int:
    """Step of the newest row that is in a file; -1 where there is none, or it cannot be read."""
    step = -1
    try:
        for row in history(file):
            step = max(step, int(row.get("_step", -1)))
    except Exception:  # cut anywhere, or of a version that writes otherwise
        return step
    return step


CONNECT_SECONDS = 10.0
"""Within which a server must have answered."""
WRITING_SECONDS = 30.0
"""Within which a file must be whole."""
STEPS = "env_steps"

ENVIRONMENT = {
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",  # W&B's own; nothing leaves the machine offline
    "WANDB_HTTP_TIMEOUT": "10",
}

_log = logging.getLogger(__name__)


class WandbSink:
    """A :class:`booster_ray.track.sink.Sink`.

    Args:
        settings: where to, and whether at all.
        root: the folder of the sweep or run; W&B's files are in ``wandb/`` there.
        say: told when the server cannot be reached.
    """

    def __init__(self, settings: Wandb, root: Path, say: Say) -> None:
        for name, text in ENVIRONMENT.items():
            os.environ.setdefault(name, text)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
            os.environ.setdefault(name, str(root / "wandb" / ".local"))
        import wandb

        self._wandb, self._settings, self._root, self._say = wandb, settings, root, say
        self._online = settings.mode == "online"
        self.where = f"{settings.entity or 'its own entity'}/{settings.project}"
        self._runs: dict[str, Any] = {}
        self._last: dict[str, int] = {}
        """Our id -> env steps of the newest row of an open run."""
        self._alerted: dict[str, set[str]] = {}

    # -- a run begins ------------------------------------------------------------------------

    def open(self, subject: TrackedRun, newest: int) -> int:
        """See :class:`Sink`."""
        if subject.kind == "sweep":
            return newest
        if subject.id in self._runs:
            return self._last[subject.id]
        if not self._online and self._complete(subject.id) >= newest >= 0:
            return newest  # written by an earlier process, and nothing came since
        return self._begin(subject)

    def _begin(self, subject: TrackedRun) -> int:
        run = self._online_run(subject) if self._online else None
        held = int(run.starting_step) - 1 if run is not None and run.resumed else -1
        if run is None:
            run = self._init(subject, "offline")
        run.define_metric(STEPS, hidden=True)
        run.define_metric("*", step_metric=STEPS)
        run.define_metric("score", step_metric=STEPS, summary="max")
        self._runs[subject.id], self._last[subject.id] = run, held
        return held

    def _online_run(self, subject: TrackedRun) -> Any:
        """The run on the server; None, and offline from now on, where that cannot be had."""
        try:
            return self._init(subject, "online")
        except Exception as error:  # no key, no server, no such entity: W&B has a type for each
            self._online = False
            _log.warning("wandb", exc_info=True)
            # Else W&B's service holds the id. Runs that are open go on offline too, written whole.
            self._wandb.teardown()
            self._runs.clear()
            self._last.clear()
            self._say(
                f"wandb cannot be reached ({one_line(error)[:200]}): runs are written offline; "
                f"send them with:\n  {self._sync_line()}"
            )
            return None

    def _init(self, subject: TrackedRun, mode: Literal["online", "offline"]) -> Any:
        searched = [f"{key}={_short(value)}" for key, value in subject.searched.items()]
        return self._wandb.init(
            id=subject.id,
            resume="allow",
            mode=mode,
            dir=str(self._root),
            project=self._settings.project,
            entity=self._settings.entity,
            name=subject.name,
            group=subject.group,
            job_type=subject.config.stage,
            notes=", ".join(searched) or None,
            tags=[subject.config.stage, f"level {subject.lineage['dr_level']}"],
            config={**subject.config.to_dict(), "lineage": subject.lineage, **_named(subject)},
            reinit="create_new",  # many at a time in one process
            settings=self._wandb.Settings(
                init_timeout=CONNECT_SECONDS,
                login_timeout=CONNECT_SECONDS,
                console="off",
                disable_code=True,
                disable_git=True,  # the commit is in the lineage
                save_code=False,
                x_disable_stats=True,  # the run's own monitor is where the run is
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    # -- and goes on -------------------------------------------------------------------------

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        """See :class:`Sink`."""
        if subject.id not in self._runs:
            raise Reopen
        run = self._runs[subject.id]
        for row in rows:
            if row.env_steps <= self._last[subject.id]:
                continue
            films = {f"video/{name}": self._wandb.Video(str(path), format="mp4")
                     for name, path in row.videos.items()}  # fmt: skip
            run.log({**row.metrics, **films, STEPS: row.env_steps}, step=row.env_steps)
            self._last[subject.id] = row.env_steps

    def update(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Sink`."""
        run = self._runs.get(subject.id)
        if run is None:
            return
        run.config.update({"state": {"status": state.status, **state.tags}}, allow_val_change=True)
        # What an earlier process has told a server, is not told again.
        before = set(state.alerts) if run.resumed else set()
        told = self._alerted.setdefault(subject.id, before)
        for text in state.alerts:
            if text not in told:
                run.alert(title=subject.name, text=text, level="WARN")
        told.update(state.alerts)

    def close(self, subject: TrackedRun, state: State) -> None:
        """See :class:`Sink`."""
        run = self._runs.pop(subject.id, None)
        if run is None:
            return
        last, folder = self._last.pop(subject.id), Path(run.dir).parent
        run.finish(exit_code=1 if state.status == "failed" else 0)
        if not folder.name.startswith("offline-"):
            return
        _wait_for(folder / f"run-{subject.id}.wandb", last)
        for older in self._folders(subject.id):
            if older.resolve() != folder.resolve():
                shutil.rmtree(older, ignore_errors=True)

    def farewell(self) -> str:
        """See :class:`Sink`."""
        if self._settings.mode == "disabled" or not list(self._folders("*")):
            return ""
        return f"W&B, to send what is offline: {self._sync_line()}"

    def _sync_line(self) -> str:
        return f"wandb sync {shlex.quote(str(self._root))}/wandb/offline-run-*"

    def _folders(self, identity: str) -> list[Path]:
        return sorted((self._root / "wandb").glob(f"offline-run-*-{identity}"))

    def _complete(self, identity: str) -> int:
        """Env steps up to which there is a file of this run, -1 where there is none."""
        files = [folder / f"run-{identity}.wandb" for folder in self._folders(identity)]
        return max((last_step(file) for file in files), default=-1)


def _wait_for(file: Path, last: int) -> None:
    """Until W&B, which does not say so, has written a row, or has not: the disk may be full."""
    deadline = time.monotonic() + WRITING_SECONDS
    while last_step(file) < last:
        if time.monotonic() > deadline:
            raise OSError(f"{file} is not whole")
        time.sleep(0.1)


def _named(subject: TrackedRun) -> dict[str, Any]:
    """The experiment of a trial, to group and to filter by."""
    return {key: value for key, value in subject.searched.items() if key == EXPERIMENT}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
