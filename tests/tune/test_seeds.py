"""Several seeds of each trial: its value is their mean, and the first decides whether they come."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from tune.test_schedule import CONFIG
from tune.test_search import FINISHED, Driver
from tune.test_two_machines import Machine

from booster_ray.config import ConfigError, load
from booster_ray.evaluate.intervals import interquartile_mean
from booster_ray.store import folder
from booster_ray.store.address import Address
from booster_ray.store.files import (
    ERROR,
    PROGRESS,
    VERDICT,
    read_progress,
    sweep_root,
    trial_directory,
    trial_name,
)
from booster_ray.store.progress import History
from booster_ray.tune.leaderboard import (
    best_scores,
    leaderboard_json,
    leaderboard_markdown,
    leaderboard_table,
)
from booster_ray.tune.ledger import verdict_of
from booster_ray.tune.plan import lines, plan
from booster_ray.tune.records import SeedRecord, Status, TrialRecord, pareto_front, rank
from booster_ray.tune.report import write_report
from booster_ray.tune.schedule import make_scheduler
from booster_ray.tune.trial import _seeded


def run(*scores: float, robustness: float | None = None) -> SeedRecord:
    """A run with a score each 300 env steps."""
    made = [
        {"env_steps": 300 * (i + 1), "score": score, "score/goalie": 2 * score}
        for i, score in enumerate(scores)
    ]
    return SeedRecord(History(made), robustness)


def trial(number: int, *runs: SeedRecord, seeds: int = 0, status: Status = "TERMINATED"
          ) -> TrialRecord:  # fmt: skip
    first, *more = runs
    return TrialRecord(
        trial_id=f"{number:04d}",
        number=number,
        status=status,
        params={},
        history=first.history,
        target_env_steps=600 * (seeds or len(runs)),
        checkpoint=None,
        error=None,
        started=True,
        robustness=first.robustness,
        seeds=seeds or len(runs),
        more=tuple(more),
    )


class Seeds(Driver):
    """A driver of a sweep with several seeds."""

    def _read(self, number: int) -> TrialRecord:
        found = [
            SeedRecord(History(read_progress(trial_directory(self.root, number, repeat))))
            for repeat in range(3)
        ]
        runs = [one for repeat, one in enumerate(found) if one.history or not repeat]
        record = trial(number, *runs, seeds=3, status="RUNNING")
        errors = (trial_directory(self.root, number, repeat) / ERROR for repeat in range(3))
        text = next((error.read_text() for error in errors if error.exists()), None)
        return TrialRecord(**{**vars(record), "error": text})

    def train(self, number: int, repeat: int, env_steps: int, score: float | None) -> None:
        directory = trial_directory(self.root, number, repeat)
        directory.mkdir(parents=True, exist_ok=True)
        report = {"env_steps": env_steps, "score": score}
        (directory / PROGRESS).write_text(json.dumps(report) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "debug").mkdir()
    return tmp_path / "debug"


# -- where runs are ----------------------------------------------------------------------------


def test_the_first_seed_has_the_trials_folder_and_others_lie_in_it() -> None:
    sweep = Path("/x/s")
    first, third = (trial_directory(sweep, 7, repeat) for repeat in (0, 2))
    assert (first, third) == (sweep / "trials/0007", sweep / "trials/0007/seed_2")
    assert [trial_name(path) for path in (first, third, sweep)] == ["0007", "0007/seed_2", ""]
    assert [sweep_root(path) for path in (first, third, sweep)] == [sweep, sweep, None]
    assert Address("/x", "s", 7, 2).directory == third and Address("/x", "s").directory == sweep


def test_seeds_differ_from_one_another_and_from_those_of_the_next_sweep() -> None:
    def seeds(seed: int) -> list[int]:
        base = load("debug", [f"seed={seed}"]).base()
        return [_seeded(base, repeat).seed for repeat in range(4)]

    assert seeds(0)[0] == 0 and seeds(1)[0] == 1
    assert len({*seeds(0), *seeds(1)}) == 8 and seeds(0) == seeds(0)


def test_a_population_has_one_seed() -> None:
    with pytest.raises(ConfigError, match="seeds 2 with scheduler pbt, expected 1") as error:
        load("debug", ["tune.scheduler=pbt", "tune.seeds=2"])
    assert "\n" not in str(error.value)


# -- what is known of a trial ------------------------------------------------------------------


def test_a_trial_is_the_mean_of_its_seeds_each_at_its_best() -> None:
    record = trial(0, run(1.0, 3.0, robustness=1.0), run(5.0, 4.0, robustness=2.0))
    assert record.seed_scores == [3.0, 5.0] and record.best_score == 4.0
    assert record.objective("robustness") == 1.5 and record.env_steps == 1200
    assert record.best_run == 1 and record.best_report["score"] == 5.0
    assert best_scores(record)["goalie"]["score"] == 8.0
    np.testing.assert_array_equal(record.curve("score"), [[300, 3.0], [600, 3.5]])
    verdict = verdict_of(record, ["score", "robustness"], "COMPLETE")
    assert verdict.values == [4.0, 1.5] and verdict.scores == [[300, 1.0], [600, 3.0]]
    assert [one["best"]["score"] for one in verdict.more] == [5.0]


def test_one_lucky_seed_does_not_beat_the_mean_of_several() -> None:
    whole = trial(0, run(1.0), run(2.0), seeds=2)
    pruned = trial(1, run(9.0), seeds=2, status="STOPPED")
    failed = trial(2, run(9.0), run(9.0), seeds=2, status="ERROR")
    assert [record.number for record in rank([failed, pruned, whole])] == [0, 1, 2]
    robust = trial(3, run(9.0, robustness=9.0), seeds=2, status="ERROR")
    both = trial(4, run(1.0, robustness=1.0), run(2.0, robustness=1.0))
    assert pareto_front([robust, both]) == {4}


def test_the_leaderboard_tells_of_each_seed() -> None:
    three = trial(0, run(1.0), run(2.0), run(6.0))
    two = trial(1, run(4.0), run(5.0), seeds=3, status="ERROR")
    rows = leaderboard_json([two, three])
    assert [row["score"] for row in rows] == [3.0, 4.5]
    assert rows[0]["seed_scores"] == [1.0, 2.0, 6.0] and rows[0]["best_seed"] == 2
    assert rows[0]["iqm"] == interquartile_mean([[1.0, 2.0, 6.0]])._asdict()
    assert rows[1]["iqm"] is None and (rows[1]["seeds"], rows[1]["target_seeds"]) == (2, 3)
    text = leaderboard_markdown([two, three])
    assert "3 of 3 seeds: 1.00 2.00 6.00" in text and "| 3.00 [1.00, 6.00] |" in text
    assert leaderboard_table([two, three]).row_count == 2


def test_the_page_tells_of_each_seed(tmp_path: Path) -> None:
    write_report(
        tmp_path / "page.html", "x", [trial(0, run(1.0), run(2.0), run(6.0))], {}, None, {}
    )
    page = (tmp_path / "page.html").read_text()
    assert "3 of 3 seeds: 1.00 2.00 6.00" in page and "<td>3.00 [1.00, 6.00]</td>" in page


def test_with_one_seed_nothing_is_said_of_seeds(tmp_path: Path) -> None:
    only = trial(0, run(1.0))
    write_report(tmp_path / "page.html", "x", [only], {}, None, {})
    said = json.dumps(leaderboard_json([only])) + leaderboard_markdown([only])
    assert "seed" not in said + (tmp_path / "page.html").read_text().partition("<script")[0]


# -- the searcher ------------------------------------------------------------------------------


def test_the_next_seed_comes_before_the_next_trial(root: Path) -> None:
    driver = Seeds(root, trials=2, capacity=1, seeds=3)
    for number in range(2):
        for repeat in range(3):
            ray_id, config = driver.suggest()
            assert (config["number"], config["repeat"]) == (number, repeat)
            driver.search.on_trial_result(ray_id, {"env_steps": 300, "score": 7.0})
            driver.train(number, repeat, 600, 10.0 * number + repeat)
            driver.search.on_trial_complete(ray_id, FINISHED)
    assert driver.suggest()[1] == Searcher.FINISHED
    assert [trial.value for trial in driver.study.trials()] == [1.0, 11.0]
    # Of one seed: the steps of the others would fall on the same.
    assert driver.study.trial(1).intermediate_values == {300: 7.0, 600: 10.0}
    verdict = json.loads((driver.directory(1) / VERDICT).read_text())
    assert verdict["values"] == [11.0] and len(verdict["more"]) == 2


def test_the_next_driver_goes_on_with_the_seed_that_was_under_way(root: Path) -> None:
    dead = Seeds(root, trials=2, capacity=1, seeds=3)
    first, _ = dead.suggest()
    dead.train(0, 0, 600, 1.0)
    dead.search.on_trial_complete(first, FINISHED)
    dead.suggest()
    dead.train(0, 1, 300, 5.0)
    alive = Seeds(root, trials=2, capacity=1)
    ray_id, config = alive.suggest()
    assert (config["number"], config["repeat"]) == (0, 1)
    alive.train(0, 1, 600, 2.0)
    alive.search.on_trial_complete(ray_id, None)
    assert alive.suggest()[1]["repeat"] == 2


def test_a_trial_that_is_pruned_has_no_second_seed(root: Path) -> None:
    driver = Seeds(root, trials=2, capacity=1, seeds=3)
    ray_id, _ = driver.suggest()
    driver.train(0, 0, 300, 1.0)
    driver.stopped.add(0)
    driver.search.on_trial_complete(ray_id, {"finished": False})
    assert driver.study.trial(0).state == TrialState.PRUNED and driver.study.trial(0).value == 1.0
    assert driver.suggest()[1]["number"] == 1
    assert [path.name for path in driver.directory(0).iterdir() if path.is_dir()] == []


def test_each_seed_is_tried_again_by_itself_and_one_that_fails_fails_the_trial(
    root: Path,
) -> None:
    driver = Seeds(root, trials=2, capacity=1, seeds=3, max_failures=1)
    failed = 0
    for repeat in (0, 0, 1, 1):
        ray_id, config = driver.suggest()
        assert (config["number"], config["repeat"]) == (0, repeat)
        if failed % 2 == 0 or repeat:
            driver.train(0, repeat, 100 + failed, 5.0)
            error = trial_directory(root, 0, repeat) / ERROR
            error.write_text("TrainingDiverged: critic_loss is nan")
            driver.search.on_trial_complete(ray_id, error=True)
            failed += 1
        else:
            driver.train(0, 0, 600, 5.0)
            driver.search.on_trial_complete(ray_id, FINISHED)
    assert driver.study.trial(0).state == TrialState.FAIL
    assert driver.suggest()[1]["number"] == 1


def test_a_seed_without_a_finite_score_fails_the_trial(root: Path) -> None:
    driver = Seeds(root, trials=1, seeds=3)
    for repeat, score in enumerate((1.0, None)):
        ray_id, _ = driver.suggest()
        driver.train(0, repeat, 600, score)
        driver.search.on_trial_complete(ray_id, FINISHED)
    assert driver.states() == [TrialState.FAIL]
    assert (driver.directory(0) / "seed_1" / ERROR).read_text() == "no finite score was reached"
    assert driver.suggest()[1] == Searcher.FINISHED


def test_asha_judges_the_first_seed_alone() -> None:
    asha: Any = make_scheduler(CONFIG, [])

    def report(number: int, repeat: int, score: float) -> str:
        attempt = SimpleNamespace(config={"number": number, "repeat": repeat})
        asha.on_trial_add(None, attempt)
        told: str = asha.on_trial_result(None, attempt, {"env_steps": 300, "score": score})
        asha.on_trial_complete(None, attempt, {"env_steps": 300, "score": score})
        return told

    assert report(0, 0, 5.0) == report(1, 0, 6.0) == TrialScheduler.CONTINUE
    # Were these counted, 5.5 would be among the worse half.
    for repeat in range(1, 9):
        assert report(1, repeat, 100.0) == report(0, repeat, -9.0) == TrialScheduler.CONTINUE
    assert report(2, 0, 5.5) == TrialScheduler.CONTINUE
    assert report(3, 0, 1.0) == TrialScheduler.STOP and asha.stopped == {3}


# -- elsewhere ---------------------------------------------------------------------------------


def test_seeds_come_from_remote_storage_and_folders_only_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, several = f"memory://{tmp_path}/runs", ("tune.seeds=3",)
    one = Machine(tmp_path / "a", url, monkeypatch, *several)
    number = one.play(1.0, ends=False)
    one.play(9.0)  # stopped early
    for repeat, score in ((1, 3.0), (2, 5.0)):
        directory = trial_directory(one.root, number, repeat)
        directory.mkdir()
        report = {"env_steps": 600, "score": score}
        (directory / PROGRESS).write_text(json.dumps(report) + "\n")
        folder.publish(one.sweep.base(), directory / PROGRESS)
    record = one.runner.record(one.study.trial(number))
    one.study.tell(number, verdict_of(record, ["score"], "COMPLETE"))
    one.study.flush()
    assert one.board[0]["score"] == 3.0 and one.board[0]["status"] == "TERMINATED"
    other = Machine(tmp_path / "b", url, monkeypatch, *several)
    assert other.board == one.board
    assert not list(other.root.glob("trials/0001/seed_*"))
    # Records that were lost: the verdict still tells.
    (trial_directory(other.root, number, 2) / PROGRESS).unlink()
    again = Machine(tmp_path / "b", url, monkeypatch, *several)
    assert [row["score"] for row in again.board] == [3.0, 9.0]


def test_a_dry_run_counts_all_seeds(tmp_path: Path) -> None:
    sweep = load("debug", [f"storage={tmp_path}", "tune.seeds=3", "tune.max_concurrent=1"])
    root = tmp_path / "debug"
    for repeat in range(2):
        directory = trial_directory(root, 0, repeat)
        directory.mkdir(parents=True)
        report = {"env_steps": 600, "wall_seconds": 600.0}
        (directory / PROGRESS).write_text(json.dumps(report) + "\n")
    planned = plan(sweep, root)
    assert planned.steps_left == 4 * 600 and planned.rate == 1
    assert "2 of 3 seeds of 600 env steps" in next(
        line for line in lines(planned) if line.startswith("trials")
    )
