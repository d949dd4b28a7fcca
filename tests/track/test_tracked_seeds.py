"""A trial's further seeds are runs of their own, which trackers show with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from track.told import Kept, add, make_sweep, reports

from booster_ray.store.files import CONFIG, TRIALS, keep_run_id
from booster_ray.track.tracked_runs import TrackedFolder, write_statuses
from booster_ray.track.uploader import Uploader


def add_seed(trial: Path, count: int) -> Path:
    """A second seed of a trial, which has made so many reports."""
    seed = trial / "seed_1"
    seed.mkdir()
    shutil.copy(trial / CONFIG, seed / CONFIG)
    keep_run_id(seed)
    add(seed, reports(count))
    return seed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = make_sweep(tmp_path / "s", trials=2, count=3, tune={"seeds": 2})
    add_seed(made / TRIALS / "0001", 2)
    return made


def test_a_seed_is_nested_below_its_trial_and_grouped_with_it(root: Path) -> None:
    found = TrackedFolder(root).subjects()
    assert [(one.kind, one.name) for one in found] == [
        ("sweep", "s"), ("trial", "s/0000"), ("trial", "s/0001"), ("seed", "s/0001/seed_1"),
    ]  # fmt: skip
    sweep, first, trial, seed = found
    assert seed.parent is trial and trial.parent is sweep
    assert [one.group for one in found] == [None, "s/0000", "s/0001", "s/0001"]
    assert seed.searched == trial.searched != first.searched


def test_a_seed_goes_with_its_trial_until_it_is_done(root: Path) -> None:
    board = TrackedFolder(root)
    *_, trial, seed = board.subjects()
    for told, status in (("RUNNING", "running"), ("PENDING", "waiting"), ("ERROR", "failed")):
        write_statuses(root, {"0000": "TERMINATED", "0001": told})
        assert board.state(seed).status == board.state(trial).status == status
    add(seed.directory, reports(3)[2:])
    assert (board.state(seed).status, board.state(trial).status) == ("finished", "failed")


def test_with_one_seed_trials_are_grouped_by_their_sweep(tmp_path: Path) -> None:
    root = make_sweep(tmp_path / "s", trials=1, count=3)
    assert [one.group for one in TrackedFolder(root).subjects()] == [None, "s"]


def test_the_best_score_of_a_sweep_is_the_best_mean(root: Path) -> None:
    """Of trial 0001 it is 0 with one seed and 3 with the other; of trial 0000 it is 0."""
    seed = root / TRIALS / "0001" / "seed_1"
    add(seed, reports(6)[2:])
    (root / "leaderboard.md").write_text("| best |")
    kept = Kept()
    feed = Uploader("kept", lambda: kept, TrackedFolder(root), print)
    feed.start()
    feed.close()
    assert feed.join(120.0)
    assert kept.steps("s/0001/seed_1") == [100, 200, 300, 400, 500, 600]
    assert kept.states["s"][-1].tags["best_score"] == "1.5"
