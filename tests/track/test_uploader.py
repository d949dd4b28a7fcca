"""Listeners that raise, hang, come late or are absent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from track.told import EVERY, Kept, add, make_run, make_sweep, reports, rewind

from booster_ray.store.files import ERROR, SYSTEM
from booster_ray.track import uploader as module
from booster_ray.track.sink import ConsoleSink, Reopen, Sink
from booster_ray.track.tracked_runs import Row, TrackedFolder, TrackedRun
from booster_ray.track.uploader import Uploader, wait_for

TIMEOUT = 120.0
"""Against hanging."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(module, "REST_SECONDS", 0.05)


class Feeding:
    """Feeds that are ended with the test."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._uploaders: list[Uploader] = []

    def __call__(self, root: Path, make: Callable[[], Sink], name: str = "kept") -> Uploader:
        feed = Uploader(name, make, TrackedFolder(root), self.said.append)
        self._uploaders.append(feed)
        feed.start()
        return feed

    def end(self) -> None:
        for feed in self._uploaders:
            feed.close()


@pytest.fixture
def feeding() -> Iterator[Feeding]:
    made = Feeding()
    yield made
    made.end()


def finish(feed: Uploader) -> None:
    feed.close()
    assert feed.join(TIMEOUT)


def until(condition: Callable[[], object]) -> None:
    event = threading.Event()
    for _ in range(int(TIMEOUT / 0.02)):
        if condition():
            return
        event.wait(0.02)
    raise AssertionError("not in time")


def every(count: int) -> list[int]:
    return [EVERY * n for n in range(1, count + 1)]


def test_reports_are_told_in_order_and_once(tmp_path: Path, feeding: Feeding) -> None:
    root, kept = make_run(tmp_path / "run", 3, env_steps=500), Kept()
    feed = feeding(root, lambda: kept)
    until(lambda: kept.steps("run") == every(3))
    rewind(root, 1)
    add(root, reports(5)[1:])
    until(lambda: kept.steps("run") == every(5))
    until(lambda: kept.closed == ["run"])
    assert [state.status for state in kept.states["run"]] == ["running", "finished"]
    finish(feed)
    assert kept.steps("run") == every(5)
    assert feed.left() == 0
    assert not feeding.said


def test_a_sweep_s_trials_are_told_apart_and_the_best_is_the_sweep_s(
    tmp_path: Path, feeding: Feeding
) -> None:
    root, kept = make_sweep(tmp_path / "sweep", trials=3, count=6), Kept()
    (root / "leaderboard.md").write_text("| best |")
    finish(feeding(root, lambda: kept))
    assert {name: kept.steps(name) for name in kept.rows} == {
        "sweep": [], **{f"sweep/{n:04d}": every(6) for n in range(3)}
    }  # fmt: skip
    assert kept.states["sweep"][-1].status == "finished"
    assert kept.states["sweep"][-1].note == "6 trials over `rewards.height`\n\n| best |"
    assert kept.states["sweep"][-1].tags["best_score"] == "3"
    assert set(kept.closed) == set(kept.rows)


class Raising(Kept):
    """Fails at every other call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def _fail(self) -> None:
        self.calls += 1
        if self.calls % 2:
            raise ConnectionError("down")

    def open(self, subject: TrackedRun, newest: int) -> int:
        self._fail()
        return super().open(subject, newest)

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        for row in rows:
            super().send(subject, [row])
            self._fail()  # in the midst of what it is given


def test_what_a_listener_missed_is_told_again_and_nothing_twice(
    tmp_path: Path, feeding: Feeding
) -> None:
    root, kept = make_run(tmp_path / "run", 9), Raising()
    feed = feeding(root, lambda: kept)
    until(lambda: kept.steps("run") == every(9) and kept.closed)
    finish(feed)
    assert kept.steps("run") == every(9)
    assert feed.left() == 0
    (line,) = feeding.said
    assert "memory" in line
    assert "ConnectionError: down" in line


def test_a_listener_that_cannot_be_built_is_tried_again(tmp_path: Path, feeding: Feeding) -> None:
    root, kept, tries = make_run(tmp_path / "run", 2), Kept(), []

    def make() -> Kept:
        tries.append(1)
        if len(tries) < 4:
            raise OSError("No space left on device")
        return kept

    feed = feeding(root, make)
    until(lambda: kept.closed)
    finish(feed)
    assert kept.steps("run") == every(2)
    assert len(feeding.said) == 1


def test_an_absent_package_is_said_once_and_what_it_missed_is_counted(
    tmp_path: Path, feeding: Feeding
) -> None:
    root, tries = make_run(tmp_path / "run", 4), []

    def make() -> Kept:
        tries.append(1)
        raise ModuleNotFoundError("No module named 'kept'")

    feed = feeding(root, make)
    assert feed.join(TIMEOUT)
    finish(feed)
    assert len(tries) == 1
    (line,) = feeding.said
    assert line.startswith("kept is not told of anything: ModuleNotFoundError")
    assert feed.left() == 4


class Hanging(Kept):
    """Never comes back from a call."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs, self.forever = threading.Event(), threading.Event()

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        self.hangs.set()
        self.forever.wait(TIMEOUT)


def test_one_that_hangs_holds_up_neither_the_others_nor_the_end(
    tmp_path: Path, feeding: Feeding
) -> None:
    root, hung, kept = make_run(tmp_path / "run", 5), Hanging(), Kept()
    feeds = [feeding(root, lambda: hung, "hung"), feeding(root, lambda: kept)]
    assert hung.hangs.wait(TIMEOUT)
    until(lambda: kept.steps("run") == every(5))
    for feed in feeds:
        feed.close()
    assert feeds[1].join(TIMEOUT)
    assert wait_for(feeds, 0.1) == [feeds[0]]
    assert feeds[0].left() == 5
    assert feeds[1].left() == 0
    hung.forever.set()


def test_one_run_that_is_refused_keeps_no_other_from_its_turn(
    tmp_path: Path, feeding: Feeding
) -> None:
    class Choosy(Kept):
        def open(self, subject: TrackedRun, newest: int) -> int:
            if subject.name.endswith("0001"):
                raise ValueError("not this one")
            return super().open(subject, newest)

    root, kept = make_sweep(tmp_path / "sweep", trials=4, count=3), Choosy()
    feed = feeding(root, lambda: kept)
    for number in (0, 2, 3):
        until(lambda number=number: kept.steps(f"sweep/{number:04d}") == every(3))
    finish(feed)
    assert feed.left() == 3
    assert feed.failed


def test_earlier_rows_come_again_where_a_listener_wants_them(
    tmp_path: Path, feeding: Feeding
) -> None:
    class Forgetful(Kept):
        """Believes an older process that it has all; then has to write everything anew."""

        asked = False

        def open(self, subject: TrackedRun, newest: int) -> int:
            first, self.asked = not self.asked, True
            return newest if first else super().open(subject, newest)

        def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
            if rows[0].env_steps > EVERY and not self.rows.get(subject.name):
                raise Reopen
            super().send(subject, rows)

    root, kept = make_run(tmp_path / "run", 3, env_steps=500), Forgetful()
    feed = feeding(root, lambda: kept)
    until(lambda: kept.asked)
    add(root, reports(5)[3:])
    until(lambda: kept.steps("run") == every(5))
    finish(feed)
    assert not feeding.said


def test_a_failed_run_says_why_and_alarms(tmp_path: Path, feeding: Feeding) -> None:
    root, kept = make_run(tmp_path / "run", 2, env_steps=500), Kept()
    (root / ERROR).write_text("TrainingDiverged: critic loss is nan")
    finish(feeding(root, lambda: kept))
    (state,) = kept.states["run"]
    assert state.status == "failed"
    assert state.alerts == ("failed: TrainingDiverged: critic loss is nan",)
    assert "critic loss is nan" in state.note


def test_the_console_says_alerts_once_and_no_old_ones(tmp_path: Path, feeding: Feeding) -> None:
    root = make_run(tmp_path / "run", 1, env_steps=500)
    alerts = root / SYSTEM
    alerts.write_text('{"env_steps": 50, "alert": "of yesterday"}\n')
    told = ConsoleSink(feeding.said.append)
    feed = feeding(root, lambda: told)
    until(lambda: told._told)
    with alerts.open("a") as stream:
        stream.write('{"env_steps": 90, "alert": "GPU 0: 91 °C, above 85 °C"}\n')
    until(lambda: feeding.said)
    finish(feed)
    assert feeding.said == ["run: GPU 0: 91 °C, above 85 °C"]
