from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from track.told import add, report, reports, rewind

from booster_ray.store.files import PROGRESS, SYSTEM
from booster_ray.track.uploader import VIDEOS, RunRows


def steps(rows: list) -> list[int]:
    return [row.env_steps for row in rows]


def test_rows_come_once_as_they_are_made(tmp_path: Path) -> None:
    run_rows = RunRows(tmp_path)
    assert run_rows.read() == []
    add(tmp_path, reports(2))
    assert steps(run_rows.read()) == [100, 200]
    assert run_rows.read() == []
    add(tmp_path, reports(3)[2:])
    assert steps(run_rows.read()) == [300]


def test_what_is_made_again_after_a_kill_is_not_told_again(tmp_path: Path) -> None:
    add(tmp_path, reports(5))
    run_rows = RunRows(tmp_path)
    assert steps(run_rows.read()) == [100, 200, 300, 400, 500]
    rewind(tmp_path, 2)
    assert run_rows.read() == []
    add(tmp_path, reports(7)[2:])
    assert steps(run_rows.read()) == [600, 700]


def test_only_what_lies_beyond(tmp_path: Path) -> None:
    add(tmp_path, reports(5))
    assert steps(RunRows(tmp_path, beyond=300).read()) == [400, 500]


def test_a_long_history_is_read_in_parts_and_wholly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("booster_ray.store.tail.BYTES", 500)
    add(tmp_path, reports(60))
    late, told = RunRows(tmp_path, beyond=5000), []
    while rows := late.read():
        told += steps(rows)
    assert told == [100 * n for n in range(51, 61)]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    add(tmp_path, reports(1))
    line = json.dumps(report(200)) + "\n"
    run_rows = RunRows(tmp_path)
    with (tmp_path / PROGRESS).open("a") as stream:
        stream.write(line[:20])
        stream.flush()
        assert steps(run_rows.read()) == [100]
        stream.write(line[20:])
    assert steps(run_rows.read()) == [200]


def test_a_line_that_a_full_disk_has_cut_is_left_out(tmp_path: Path) -> None:
    with (tmp_path / PROGRESS).open("a") as stream:
        stream.write('{"env_steps": 100, "wall\n' + json.dumps(report(200)) + "\n")
    assert steps(RunRows(tmp_path).read()) == [200]


def test_the_best_score_so_far_is_the_same_from_wherever_it_is_read(tmp_path: Path) -> None:
    add(tmp_path, [report(100, score=1.0), report(200, score=3.0), report(300, score=2.0)])
    whole = [row.metrics["best_score"] for row in RunRows(tmp_path).read()]
    assert whole == [1.0, 3.0, 3.0]
    late = RunRows(tmp_path, beyond=200)
    assert [row.metrics["best_score"] for row in late.read()] == [3.0]
    assert late.best_score == 3.0


def test_scores_below_zero_count(tmp_path: Path) -> None:
    add(tmp_path, [report(100, score=-2.0), report(200, score=-1.0), report(300)])
    rows = RunRows(tmp_path).read()
    assert [row.metrics.get("best_score") for row in rows] == [-2.0, -1.0, None]


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    add(tmp_path, [report(100, score=float("nan"), alpha=float("inf"))])
    (row,) = RunRows(tmp_path).read()
    assert row.metrics.keys() == {"env_steps", "wall_seconds", "critic_loss"}


def test_readings_of_the_machine_go_with_the_next_report(tmp_path: Path) -> None:
    readings = [
        {"env_steps": 50, "gpu/0/power": 10.0},
        {"env_steps": 90, "gpu/0/power": 20.0},
        {"env_steps": 150, "alert": "hot"},
        {"env_steps": 250, "gpu/0/power": 30.0},
    ]
    (tmp_path / SYSTEM).write_text("".join(json.dumps(r) + "\n" for r in readings))
    add(tmp_path, reports(2))
    first, second = RunRows(tmp_path).read()
    assert first.metrics["gpu/0/power"] == 20.0
    assert first.metrics["env_steps"] == 100
    assert "gpu/0/power" not in second.metrics
    assert "alert" not in second.metrics


def test_films_go_with_the_first_report_after_them(tmp_path: Path) -> None:
    (tmp_path / VIDEOS).mkdir()
    film = tmp_path / VIDEOS / "000000000150-goalie_median.mp4"
    film.write_bytes(b"film")
    add(tmp_path, reports(3))
    rows = RunRows(tmp_path).read()
    assert [row.videos for row in rows] == [{}, {"goalie_median": film}, {}]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["train", "kill", "read", "kill the reader"]), st.integers(0, 9)),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(ACTIONS)
def test_any_course_of_kills_gives_every_row_once(tmp_path_factory, actions: list) -> None:
    """A run makes reports, is cut back to a checkpoint and makes them again; a reader looks in."""
    folder = tmp_path_factory.mktemp("run")
    whole, made, told = reports(30), 0, []
    run_rows = RunRows(folder)
    for action, number in [*actions, ("train", 30), ("read", 0)]:
        if action == "train":
            add(folder, whole[made : made + number])
            made = min(made + number, len(whole))
        elif action == "kill" and made:
            made = max(0, made - number)
            rewind(folder, made)
        elif action == "read":
            told += steps(run_rows.read())
        elif action == "kill the reader":
            run_rows = RunRows(folder, told[-1] if told else -1)
    assert told == [100 * n for n in range(1, 31)]
