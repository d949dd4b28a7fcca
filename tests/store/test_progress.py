"""Reports that are read as they come: the same as reading all of them, for less."""

from __future__ import annotations

import itertools
import json
import math
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import reading
from hypothesis import given, settings
from hypothesis import strategies as st

from booster_ray.store.durable import replace_text
from booster_ray.store.files import PROGRESS, last_report, read_progress
from booster_ray.store.progress import History, ProgressReader
from booster_ray.store.tail import END_BYTES, Tail


def line(index: int, **more: Any) -> str:
    return json.dumps({"env_steps": index, "loss": index / 3, **more}) + "\n"


def add(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


class Run:
    """A run's file in the course of kills and resumes, and those who look in on it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / PROGRESS
        self.reader, self.tail = ProgressReader(directory), Tail(directory / PROGRESS)
        self._count, self._clock = itertools.count(1), itertools.count(10**9)

    def report(self, number: int) -> None:
        for _ in range(number):
            index = next(self._count)
            add(self.path, line(index, **({"score": index % 7 - 3.0} if index % 3 == 0 else {})))

    def be_cut(self, number: int) -> None:
        """Killed while it wrote; whoever goes on first cuts back."""
        add(self.path, line(next(self._count))[: 5 + number])

    def fill_the_disk(self, number: int) -> None:
        add(self.path, line(next(self._count))[: 5 + number] + "\n")

    def rewind(self, number: int) -> None:
        kept = read_progress(self.directory)[:number]
        replace_text(self.path, "".join(json.dumps(report) + "\n" for report in kept))

    def vanish(self, _: int) -> None:
        self.path.unlink(missing_ok=True)

    def look(self, _: int) -> None:
        if self.path.exists():  # what follows a kill takes longer than a disk's clock ticks
            now = next(self._clock)
            os.utime(self.path, (now, now))
        whole = _parsed(self.path)
        assert read_progress(self.directory) == whole
        assert list(self.reader.read()) == whole
        assert last_report(self.directory) == (whole[-1] if whole else None)


def _parsed(path: Path) -> list[dict[str, float]]:
    """Of whole lines what is JSON: as simple as can be."""
    found = []
    for text in path.read_text().split("\n")[:-1] if path.exists() else ():
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


COURSE = st.lists(
    st.tuples(
        st.sampled_from(["report", "be_cut", "fill_the_disk", "rewind", "vanish", "look"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(COURSE)
def test_reading_what_is_new_gives_what_reading_all_gives(
    tmp_path_factory: pytest.TempPathFactory, course: list[tuple[str, int]]
) -> None:
    run = Run(tmp_path_factory.mktemp("run"))
    for action, number in [*course, ("look", 0)]:
        getattr(run, action)(number)


def test_a_file_of_the_same_inode_and_size_that_says_something_else_is_read_anew(
    tmp_path: Path,
) -> None:
    (tmp_path / PROGRESS).write_text(line(1) + line(2))
    reader = ProgressReader(tmp_path)
    assert len(reader.read()) == 2
    with (tmp_path / PROGRESS).open("r+") as stream:  # as when a number is given out again
        stream.write(line(1) + line(5) + line(6))
    assert [report["env_steps"] for report in reader.read()] == [1, 5, 6]


def test_a_report_costs_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / PROGRESS
    path.write_text("".join(line(i) for i in range(20_000)))
    reader, size = ProgressReader(tmp_path), path.stat().st_size
    with reading.counted() as all_of_them:
        reader.read()
    assert all_of_them[0] >= size
    add(path, line(20_001))
    with reading.counted() as one:
        assert len(reader.read()) == 20_001
    with reading.counted() as nothing:
        reader.read()
    assert one[0] < 20_000 < size
    assert nothing[0] < 1000


def test_the_newest_report_is_read_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / PROGRESS
    path.write_text("".join(line(i) for i in range(20_000)) + '{"env_steps": 7')
    with reading.counted() as found:
        assert last_report(tmp_path) == {"env_steps": 19_999, "loss": 19_999 / 3}
    assert found[0] < 1.2 * END_BYTES < path.stat().st_size
    path.write_text(line(1) + line(2, text="x" * 3 * END_BYTES) + "no report\n")
    assert (last_report(tmp_path) or {})["env_steps"] == 2


def test_lines_of_a_broken_disk_do_not_end_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("booster_ray.store.tail.BYTES", 64)
    path = tmp_path / PROGRESS
    path.write_bytes(line(1).encode() + b"\xff\n" * 100 + b"x" * 500 + b"\n" + line(2).encode())
    assert [report["env_steps"] for report in ProgressReader(tmp_path).read()] == [1, 2]


NUMBERS = st.floats(width=32) | st.integers(-(2**50), 2**50) | st.booleans()
REPORTS = st.lists(
    st.fixed_dictionaries(
        {"env_steps": st.integers(0, 30)},
        optional={"score": NUMBERS, "loss": NUMBERS, "reward/x": NUMBERS},
    ),
    max_size=30,
)


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


@settings(max_examples=300, deadline=None)
@given(REPORTS)
def test_a_history_says_what_its_reports_said(reports: list[dict[str, float]]) -> None:
    history = History(reports)
    assert repr(list(history)) == repr(reports)
    assert repr(history[1:-1]) == repr(reports[1:-1])
    assert history.keys == {key for report in reports for key in report}
    scored = [report for report in reports if _finite(report.get("score"))]
    assert repr(history.best) == repr(max(scored, key=lambda r: r["score"], default={}))
    assert history.best_score == (history.best["score"] if scored else None)
    for key in ("score", "loss", "reward/x", "absent"):
        known = [report for report in reports if _finite(report.get(key))]
        assert history.latest(key) == (known[-1][key] if known else None)
        later_counts = {float(r["env_steps"]): float(r[key]) for r in known}
        assert [tuple(point) for point in history.curve(key)] == sorted(later_counts.items())


def test_what_is_no_number_is_none(tmp_path: Path) -> None:
    history = History([{"env_steps": 1, "score": None, "x": "text", "y": 10**400}])  # type: ignore[dict-item]
    assert history.latest("env_steps") == 1 and history.best == {}
    assert history.latest("x") is history.latest("y") is None


def test_a_number_takes_eight_bytes_and_keys_are_held_once() -> None:
    reports = [{f"loss/{i}": float(i + n) for i in range(50)} for n in range(200)]
    made = [History(reports[:1])]
    tracemalloc.start()
    try:
        made += [History(reports) for _ in range(20)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10 * 20 * 200 * 50
