"""The searcher between Ray Tune and the study: every trial ends once, whatever its attempts do."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from store.ring import Ring

from booster_ray.config import Sweep, load
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint.history import load_newest
from booster_ray.store.database import sqlite_url
from booster_ray.store.files import ERROR, PROGRESS, RUN_LOCK, STOP_FILE, read_progress
from booster_ray.store.lock import try_lock
from booster_ray.store.progress import History
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.ledger import Ledger
from booster_ray.tune.records import TrialRecord
from booster_ray.tune.search import StudySearch
from booster_ray.tune.stop import Stop
from booster_ray.tune.study import SweepStudy

FINISHED = {"finished": True}


class Driver:
    """One driver's searcher on a sweep's folder; trials are played by the test."""

    def __init__(self, root: Path, trials: int = 3, capacity: int = 10, **tune: Any) -> None:
        self.root = root
        marker = root / "sweep.yaml"
        if not marker.exists():
            overrides = [f"tune.trials={trials}", "tune.sampler=random", f"storage={root.parent}"]
            overrides += [f"tune.{key}={value}" for key, value in tune.items()]
            marker.write_text(load("debug", overrides).complete().to_yaml())
        sweep: Sweep = load(marker)
        self.said: list[str] = []
        self.unfit: tuple[str, ...] = ()
        self.stop = Stop(root, self.said.append)
        ledger = Ledger(root)
        ledger.read()
        self.study = SweepStudy(sweep, root, ledger)
        self.stopped: set[int] = set()
        """By the scheduler."""
        self.search = StudySearch(
            self.study,
            self._read,
            SweepMirror(sweep.base(), root),
            sweep,
            lambda: capacity,
            self.stop,
            self.stopped,
            lambda: self.unfit,
        )
        self._ids = iter(range(1000))

    def _read(self, number: int) -> TrialRecord:
        error = self.directory(number) / ERROR
        return TrialRecord(
            trial_id=f"{number:04d}",
            number=number,
            status="RUNNING",
            params=self.study.params(number),
            history=History(read_progress(self.directory(number))),
            target_env_steps=600,
            checkpoint=None,
            error=error.read_text() if error.exists() else None,
            started=True,
        )

    def directory(self, number: int) -> Path:
        return self.root / "trials" / f"{number:04d}"

    def suggest(self) -> tuple[str, Any]:
        trial_id = f"ray-{next(self._ids)}"
        return trial_id, self.search.suggest(trial_id)

    def write(self, number: int, env_steps: int, score: float | None, error: str = "") -> None:
        self.directory(number).mkdir(parents=True, exist_ok=True)
        report = {"env_steps": env_steps, "score": score}
        (self.directory(number) / PROGRESS).write_text(json.dumps(report) + "\n")
        if error:
            (self.directory(number) / ERROR).write_text(error)

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "debug").mkdir()
    return tmp_path / "debug"


def test_each_trial_is_suggested_and_told_once(root: Path) -> None:
    driver = Driver(root)
    for number in range(3):
        trial_id, config = driver.suggest()
        assert config["number"] == number and set(config["params"]) == set(load("debug").space)
        driver.write(number, 600, score=float(number))
        driver.search.on_trial_complete(trial_id, FINISHED)
    assert driver.suggest()[1] == Searcher.FINISHED
    assert [t.value for t in driver.study.trials()] == [0.0, 1.0, 2.0]


def test_no_more_than_fit(root: Path) -> None:
    driver = Driver(root, capacity=2)
    ids = [driver.suggest()[0] for _ in range(2)]
    assert driver.suggest()[1] is None
    driver.write(0, 600, score=1.0)
    driver.search.on_trial_complete(ids[0], FINISHED)
    assert driver.suggest()[1]["number"] == 2


def test_what_fails_on_a_machine_that_cannot_work_is_not_the_trials_fault(root: Path) -> None:
    driver = Driver(root, trials=1, max_failures=0)
    for number in range(12):  # as many bad machines have joined
        trial_id, config = driver.suggest()
        assert config["number"] == 0 and config["avoid"] == list(driver.unfit)
        driver.unfit += (f"node{number:02d}",)
        driver.write(0, 0, None, error="FileNotFoundError: sweep.yaml")
        driver.search.on_trial_complete(trial_id, error=True)
    assert driver.states() == [TrialState.RUNNING]
    trial_id, _ = driver.suggest()  # kept off all of them: now it is
    driver.write(0, 0, None, error="ValueError: x")
    driver.search.on_trial_complete(trial_id, error=True)
    assert driver.states() == [TrialState.FAIL]


def test_a_lost_process_is_suggested_again_with_the_same_settings(root: Path) -> None:
    driver = Driver(root, trials=1, max_failures=0)
    first_id, first = driver.suggest()
    for env_steps in range(1, 20):
        driver.write(0, env_steps, None)
        driver.search.on_trial_complete(first_id, error=True)
        first_id, again = driver.suggest()
        assert again["attempt"] > first["attempt"]
        assert {**again, "attempt": first["attempt"]} == first
    driver.write(0, 600, 1.0)
    driver.search.on_trial_complete(first_id, FINISHED)
    assert driver.states() == [TrialState.COMPLETE]


def test_while_a_trial_waits_the_sweep_is_not_over(root: Path) -> None:
    driver = Driver(root, trials=1)
    for _ in range(2):
        trial_id, config = driver.suggest()
        driver.write(0, 100, None)
        driver.search.on_trial_complete(trial_id, error=True)
    # The second death at one step: it waits a second.
    assert driver.suggest()[1] is None
    deadline = time.monotonic() + 60
    while (config := driver.suggest()[1]) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert config["number"] == 0


def test_a_failing_trial_is_told_as_failed_and_the_others_go_on(root: Path) -> None:
    driver = Driver(root, trials=2, max_failures=1)
    bad, _ = driver.suggest()
    good, _ = driver.suggest()
    driver.write(0, 100, 5.0, "TrainingDiverged: critic_loss is nan")
    driver.search.on_trial_complete(bad, error=True)
    bad, config = driver.suggest()
    assert config["number"] == 0 and not (driver.directory(0) / ERROR).exists()
    driver.write(0, 150, 5.0, "TrainingDiverged: critic_loss is nan")
    driver.search.on_trial_complete(bad, error=True)
    assert driver.suggest()[1] is None
    driver.write(1, 600, 1.0)
    driver.search.on_trial_complete(good, FINISHED)
    assert driver.states() == [TrialState.FAIL, TrialState.COMPLETE]
    assert driver.suggest()[1] == Searcher.FINISHED


def test_without_a_finite_score_a_trial_has_failed(root: Path) -> None:
    driver = Driver(root, trials=1)
    trial_id, _ = driver.suggest()
    driver.write(0, 600, None)
    driver.search.on_trial_complete(trial_id, FINISHED)
    assert driver.states() == [TrialState.FAIL]
    assert (driver.directory(0) / ERROR).read_text() == "no finite score was reached"


def test_the_next_driver_takes_what_is_unfinished_first(root: Path) -> None:
    dead = Driver(root)
    (first, _), (_, second) = dead.suggest(), dead.suggest()
    dead.write(0, 600, 1.0)
    dead.search.on_trial_complete(first, FINISHED)
    alive = Driver(root)
    suggested = [alive.suggest()[1] for _ in range(2)]
    assert {**suggested[0], "attempt": second["attempt"]} == second
    assert suggested[1]["number"] == 2
    assert alive.suggest()[1] is None
    assert alive.states() == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]


def test_a_stop_leaves_what_is_unfinished_and_tells_what_is_done(root: Path) -> None:
    driver = Driver(root)
    (first, _), (second, _) = driver.suggest(), driver.suggest()
    driver.stop.request("SIGINT")
    driver.stop.request("SIGINT")
    assert len(driver.said) == 1
    assert driver.suggest()[1] == Searcher.FINISHED
    driver.write(0, 600, 1.0)
    driver.search.on_trial_complete(first, FINISHED)
    driver.write(1, 300, 1.0)
    driver.search.on_trial_complete(second, {"finished": False})
    assert driver.states() == [TrialState.COMPLETE, TrialState.RUNNING]


def test_what_the_scheduler_stops_is_pruned_with_its_score(root: Path) -> None:
    driver = Driver(root, trials=2)
    (first, _), (second, _) = driver.suggest(), driver.suggest()
    driver.write(0, 300, 2.0)
    driver.search.on_trial_result(first, {"env_steps": 150, "score": 1.0})
    driver.search.on_trial_result(first, {"env_steps": 200})
    driver.stopped.add(0)
    driver.search.on_trial_complete(first, {"finished": False})
    driver.write(1, 600, 1.0)
    driver.stopped.add(1)  # at its very end: it has run to it
    driver.search.on_trial_complete(second, {"finished": True})
    assert driver.states() == [TrialState.PRUNED, TrialState.COMPLETE]
    pruned = driver.study.trial(0)
    assert pruned.value == 2.0 and pruned.intermediate_values == {150: 1.0, 300: 2.0}
    assert Driver(root).states() == driver.states()


@pytest.mark.parametrize("where", ["here", "on the storage"])
def test_a_stop_file_that_a_user_makes_leaves_trials_unfinished(
    root: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(root, trials=3)
    (first, _), (second, _) = driver.suggest(), driver.suggest()
    if where == "here":
        (root / STOP_FILE).touch()
    else:  # which this machine has not seen yet
        monkeypatch.setattr(driver.search._sharing, "stop_wanted", lambda: True)
    driver.write(0, 300, 1.0)
    driver.search.on_trial_complete(first, {"finished": False})
    driver.write(1, 300, None)
    driver.search.on_trial_complete(second, {"finished": False})
    assert driver.states() == [TrialState.RUNNING] * 2
    assert driver.suggest()[1] == Searcher.FINISHED
    assert len(driver.said) == 1 and "Stopping: trials save a checkpoint" in driver.said[0]
    alive = Driver(root)
    assert [alive.suggest()[1]["number"] for _ in range(3)] == [0, 1, 2]


def test_a_trial_that_ended_before_its_driver_told_so_is_told(root: Path) -> None:
    """It has nothing more to report."""
    driver = Driver(root, trials=1)
    trial_id, _ = driver.suggest()
    driver.write(0, 600, 1.0)
    driver.search.on_trial_complete(trial_id, None)
    assert driver.states() == [TrialState.COMPLETE]


def test_a_trial_that_ends_for_no_reason_is_tried_again(root: Path) -> None:
    driver = Driver(root, trials=1)
    trial_id, _ = driver.suggest()
    driver.write(0, 300, 1.0)
    driver.search.on_trial_complete(trial_id, {"finished": False})
    assert driver.states() == [TrialState.RUNNING] and driver.suggest()[1]["number"] == 0


def test_enqueued_trials_run_first_and_one_that_cannot_says_why(root: Path) -> None:
    driver = Driver(root, trials=3)
    user = optuna.load_study(study_name="debug", storage=sqlite_url(root / "study.db"))
    user.enqueue_trial({"rewards.hight": 1.0})
    user.enqueue_trial({"rewards.height": 1.25})
    assert driver.suggest()[1]["number"] == 1 and driver.study.params(1)["rewards.height"] == 1.25
    assert (driver.directory(0) / ERROR).read_text().startswith("it was enqueued with 'rewards.hi")
    assert driver.suggest()[1]["number"] == 2
    assert driver.suggest()[1] is None
    assert driver.states() == [TrialState.FAIL, *[TrialState.RUNNING] * 2]


def test_storage_away_at_the_end_of_a_trial_is_waited_for(root: Path) -> None:
    """Its folder would look as if the trial had no score."""
    driver = Driver(root, trials=1)
    trial_id, _ = driver.suggest()
    driver.write(0, 600, 1.0)
    away = root.with_name("away")
    root.rename(away)
    back = threading.Timer(1.0, lambda: away.rename(root))
    back.start()
    driver.search.on_trial_complete(trial_id, FINISHED)
    back.join()
    assert driver.states() == [TrialState.COMPLETE]


def test_a_trial_that_is_stopped_keeps_no_replay_once_its_process_is_gone(root: Path) -> None:
    driver = Driver(root, trials=2)
    driver.stopped |= {0, 1}
    (first, _), (second, _) = driver.suggest(), driver.suggest()
    for number in range(2):
        driver.write(number, 300, 1.0)
        ring = Ring(4)
        checkpoint.save(driver.directory(number) / "step_000000000300", {"replay": ring.tree()})
    segments = [driver.directory(number) / "segments" for number in range(2)]
    held = try_lock(driver.directory(0) / RUN_LOCK)
    assert held is not None
    driver.search.on_trial_complete(first, {"env_steps": 300})
    assert list(segments[0].iterdir())  # its process may be writing
    held.close()
    driver.search.on_trial_complete(second, {"env_steps": 300})
    assert not any(list(folder.iterdir()) for folder in segments)
    assert load_newest(driver.directory(0)) is not None
