"""The sweep as it runs: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from booster_ray.tune.leaderboard import BLANK, COLUMNS, STYLES, count, number, tasks_of
from booster_ray.tune.records import TrialRecord

ACTIVITY = ("RUNNING", "PAUSED", "PENDING", "TERMINATED", "STOPPED", "ERROR")
"""Statuses in the order of the rows, so that a short terminal cuts off finished trials."""


WIDE = 110
"""Columns of a terminal from which on there is room for the scores of each task."""


class LiveTable:
    """Context manager that shows the trials given to `update`.

    Off a terminal it prints a line when a trial's status changes, and at most one line per
    trial every `interval` seconds when the trial has gone on.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 10.0,
    ) -> None:
        self._console = console or Console()
        self._clock = clock
        self._interval = interval
        self._printed: dict[str, tuple[str, int, float]] = {}
        """Trial -> status, env steps and time of its last line."""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # Drawn on update only: no thread that could outlive or interleave with the sweep.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, records: Iterable[TrialRecord]) -> None:
        """Show the trials as they are now; cheap enough to call on every report."""
        if self._live is not None:
            # Title, heading, rule and caption take the rest of the screen.
            rows = max(self._console.height - 6, 1)
            wide = self._console.width >= WIDE
            self._live.update(live_table(records, rows, wide), refresh=True)
            return
        for record in records:
            self._print_when_due(record)

    def _print_when_due(self, record: TrialRecord) -> None:
        now = self._clock()
        status, steps, when = self._printed.get(record.trial_id, ("PENDING", 0, -float("inf")))
        due = record.env_steps != steps and now - when >= self._interval
        if record.status == status and not due:
            return
        self._printed[record.trial_id] = (record.status, record.env_steps, now)
        # A log is read by grep: no markup, colour or wrapping.
        self._console.print(
            plain_line(record), markup=False, highlight=False, emoji=False, soft_wrap=True
        )


def live_table(records: Iterable[TrialRecord], max_rows: int, wide: bool = False) -> Table:
    """At most `max_rows` trials, those at work first.

    A `wide` one says besides how many updates are made in a second, and the newest score in each
    task.
    """
    ordered = sorted(records, key=lambda r: (ACTIVITY.index(r.status), r.number))
    hidden = len(ordered) - max_rows
    lines = ["lost: attempts that ended early, and were made again"] if _any_lost(ordered) else []
    lines += [f"and {hidden} more"] if hidden > 0 else []
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption="\n".join(lines) or None
    )
    table.add_column("trial", no_wrap=True)
    table.add_column("status", no_wrap=True)
    tasks = tasks_of(ordered)
    tasks = tasks if len(tasks) <= COLUMNS else ()
    more = ("updates/s", *(task.replace("_to_", " to ") for task in tasks)) if wide else ()
    for heading in ("env steps", "steps/s", "ETA", *more, "score", "best", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in ordered[:max_rows]:
        table.add_row(
            Text(record.label),
            Text(record.status, style=STYLES[record.status]),
            _progress(record),
            number(record.steps_per_second, ",.0f"),
            duration(record.eta_seconds),
            *(_more(record, tasks) if wide else ()),
            number(record.last_score, ".3f"),
            Text(number(record.best_score, ".3f"), style="bold"),
            Text(str(record.interrupted or ""), style="yellow"),
        )
    return table


def _any_lost(records: Iterable[TrialRecord]) -> bool:
    return any(record.interrupted for record in records)


def _more(record: TrialRecord, tasks: Sequence[str]) -> list[str]:
    scores = record.last_scores(tasks).values()
    return [number(record.updates_per_second, ",.0f"), *(number(s, ".2f") for s in scores)]


def plain_line(record: TrialRecord) -> str:
    """The trial's row as one line, with the error if it has one."""
    line = (
        f"{record.label} {record.status} {_progress(record)}"
        f" {number(record.steps_per_second, ',.0f')} steps/s"
        f" ETA {duration(record.eta_seconds)}"
        f" score {number(record.last_score, '.3f')} best {number(record.best_score, '.3f')}"
    )
    line += f" lost {record.interrupted}" if record.interrupted else ""
    return f"{line} error: {' '.join(record.error.split())}" if record.error else line


def duration(seconds: float | None) -> str:
    """Seconds as 45s, 5m12s or 3h07m; a dash for None."""
    if seconds is None:
        return BLANK
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}h{minutes_left:02}m" if hours else f"{minutes}m{rest:02}s"


def _progress(record: TrialRecord) -> str:
    done, target = record.env_steps, record.target_env_steps
    percent = f" ({min(done / target, 1):.0%})" if target > 0 else ""
    return f"{count(done)}/{count(target)}{percent}"
