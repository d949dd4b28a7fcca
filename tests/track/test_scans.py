"""What a look at a sweep of many trials reads."""

from __future__ import annotations

from pathlib import Path

import reading
from track.told import Kept, add, make_run, make_sweep, report

from booster_ray.store.files import PROGRESS
from booster_ray.track.tracked_runs import STATUSES, TrackedFolder, write_statuses
from booster_ray.track.uploader import Uploader


def test_statuses_are_read_once_for_all_trials(tmp_path: Path) -> None:
    root = make_sweep(tmp_path / "sweep", trials=20, count=2)
    write_statuses(root, {f"{number:04d}": "RUNNING" for number in range(3000)})
    board = TrackedFolder(root)
    subjects = board.subjects()
    with reading.counted() as found:
        assert {board.state(subject).status for subject in subjects} == {"running"}
    assert found[0] < 3 * (root / STATUSES).stat().st_size
    write_statuses(root, {f"{number:04d}": "TERMINATED" for number in range(3000)})
    assert [board.state(subject).status for subject in subjects[1:]] == ["finished"] * 20


def test_trials_that_are_known_are_not_read_again(tmp_path: Path) -> None:
    board = TrackedFolder(make_sweep(tmp_path / "sweep", trials=20, count=2))
    first = board.subjects()
    with reading.counted() as found:
        assert board.subjects() == first and len(first) == 21
    assert found[0] < 2000


def test_a_tracker_reads_the_reports_once(tmp_path: Path) -> None:
    root, kept = make_run(tmp_path / "run", 1, env_steps=10**6), Kept()
    add(root, [report(100 * n) for n in range(2, 5000)])
    uploader = Uploader("kept", lambda: kept, TrackedFolder(root), print)
    with reading.counted() as found:
        uploader.close()
        uploader.start()
        assert uploader.join(60)
    assert len(kept.rows["run"]) == 4999
    assert found[0] < 1.7 * (root / PROGRESS).stat().st_size
