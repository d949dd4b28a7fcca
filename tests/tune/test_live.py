import io
import math
from dataclasses import replace
from typing import Any

from rich.console import Console

from booster_ray.store.progress import History
from booster_ray.tune.live import LiveTable, duration, live_table, plain_line
from booster_ray.tune.records import Status, TrialRecord

NOTHING = TrialRecord("a", 0, "PENDING", {}, History(), 1000, None, None, False)


def at(steps: float, status: Status = "RUNNING", error: str | None = None) -> TrialRecord:
    report = {"env_steps": steps, "env_steps_per_second": 50.0, "score": -1.0}
    return replace(NOTHING, status=status, history=History([report]), error=error)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def plain() -> tuple[LiveTable, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return LiveTable(Console(file=out, width=20), clock), out, clock


def test_a_log_gets_a_line_per_interval() -> None:
    live, out, clock = plain()
    with live:
        live.update([NOTHING])
        for second in range(25):
            clock.now = second
            live.update([at(second + 1)])
        for clock.now in (100, 200):
            live.update([at(25)])
    lines = out.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["1/1k", "11/1k", "21/1k", "25/1k"]
    assert lines[1] == "a RUNNING 11/1k (1%) 50 steps/s ETA 20s score -1.000 best -1.000"


def test_a_log_gets_every_change_of_status_once() -> None:
    live, out, _ = plain()
    with live:
        for record in (at(1), at(2), at(2, "ERROR", "[/x] bad\nthing"), at(2, "ERROR"), at(2)):
            live.update([record])
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["RUNNING", "ERROR", "RUNNING"]
    assert lines[1].endswith("error: [/x] bad thing")


def test_each_trial_has_its_own_interval() -> None:
    live, out, clock = plain()
    with live:
        live.update([at(1)])
        clock.now = 5
        live.update([at(2), replace(at(2), trial_id="b")])
    assert [line[0] for line in out.getvalue().splitlines()] == ["a", "b"]


def test_a_terminal_gets_a_table() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, height=30, force_terminal=True, _environ={})
    with LiveTable(console) as live:
        live.update([at(500)])
        live.update([at(600), replace(NOTHING, trial_id="[/b]", number=1)])
    for part in ("600/1k (60%)", "8s", "[/b]", "PENDING"):
        assert part in out.getvalue()


def test_working_trials_come_first_and_the_rest_is_counted() -> None:
    records = [replace(at(1, "STOPPED"), number=n, trial_id=f"s{n}") for n in range(5)]
    table = live_table([*records, replace(at(1), number=9, trial_id="r9")], max_rows=2)
    assert [str(cell) for cell in table.columns[0].cells] == ["r9", "s0"]
    assert table.caption == "and 4 more"


def test_nothing_breaks_on_what_is_unknown() -> None:
    keys = ("env_steps", "env_steps_per_second", "score")
    for odd in (None, math.nan, math.inf, -math.inf):
        history: Any = History([dict.fromkeys(keys, odd)])
        record = replace(at(1), history=history, target_env_steps=0)
        assert plain_line(record) == "a RUNNING 0/0 – steps/s ETA – score – best –"
        assert live_table([record], 5).row_count == 1


def test_durations() -> None:
    shown = [duration(s) for s in (None, 0, 59.6, 312, 11_220)]
    assert shown == ["–", "0s", "1m00s", "5m12s", "3h07m"]


def test_a_wide_table_has_each_tasks_score_and_what_was_lost() -> None:
    report = {"env_steps": 9.0, "updates_per_second": 1234.5, "score/goalie": 2.0, "score": 0.5}
    record = replace(at(1), history=History([report]), interrupted=3)
    wide, narrow = live_table([record], 5, wide=True), live_table([record], 5)
    cells = {str(column.header): str(next(iter(column.cells))) for column in wide.columns}
    assert cells["updates/s"] == "1,234" and cells["goalie"] == "2.00" and cells["lost"] == "3"
    assert cells["obstacle"] == "–" and "kick to target" in cells
    assert "goalie" not in {str(column.header) for column in narrow.columns}
    assert wide.caption == "lost: attempts that ended early, and were made again"
    assert live_table([at(1)], 5).caption is None
    assert plain_line(record).endswith("lost 3")
