"""Which attempts are counted, and when a trial is given up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from booster_ray.train.attempts import add_attempt, read_attempts
from booster_ray.train.run import ERROR, PROGRESS
from booster_ray.tune.retry import Retries, Verdict


def attempt(
    retries: Retries, root: Path, error: str | None = None, at: int = 100, notice: bool = False
) -> Verdict:
    """One attempt at trial 0 that ends after ``at`` env steps."""
    directory = root / "trials" / "0000"
    retries.begin(0)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROGRESS).write_text(json.dumps({"env_steps": at}) + "\n")
    if error:
        (directory / ERROR).write_text(error)
    if notice:
        add_attempt(directory, "preempted", "SIGTERM", 0.5)
    return retries.judge(0)


def test_an_error_is_retried_as_often_as_configured_wherever_it_strikes(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=2)
    waits = [attempt(retries, tmp_path, f"ValueError: {at}", at).wait for at in (1, 2, 3)]
    assert waits == [0, 0, None]


def test_the_same_error_at_the_same_step_ends_a_trial_however_many_retries_it_has(
    tmp_path: Path,
) -> None:
    retries = Retries(tmp_path, max_failures=100)
    texts = [f"TrainingDiverged: loss is {x}" for x in (1, 2, 3)]
    assert [attempt(retries, tmp_path, t).wait for t in texts] == [0, 0, None]


def test_the_count_survives_the_driver(tmp_path: Path) -> None:
    waits = [attempt(Retries(tmp_path, 1), tmp_path, "ValueError: x", at).wait for at in (1, 2)]
    assert waits == [0, None]


@pytest.mark.parametrize("error", [None, "OSError: [Errno 28] No space left on device"])
def test_lost_processes_and_storage_do_not_count_while_the_trial_goes_on(
    tmp_path: Path, error: str | None
) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path, error, at) for at in range(30)]
    assert {verdict.wait for verdict in verdicts} == {0}


def test_a_notice_heeded_in_time_never_counts(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path, notice=True) for _ in range(30)]
    assert {verdict.wait for verdict in verdicts} == {0}
    assert {a["how"] for a in read_attempts(tmp_path / "trials" / "0000")} == {"preempted"}


def test_a_process_that_dies_again_and_again_at_one_step_is_given_up(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path) for _ in range(5)]
    assert [v.wait for v in verdicts] == [0, 1, 2, 4, None] and not verdicts[-1].storage
    error = (tmp_path / "trials" / "0000" / ERROR).read_text()
    assert error == "the trial's process died 5 times after 100 env steps"


def test_storage_that_stays_away_is_not_the_trials_fault(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path, "FileNotFoundError: x") for _ in range(10)]
    assert [v.wait for v in verdicts] == [0, 1, 2, 4, 8, 16, 32, 60, 60, None]
    assert verdicts[-1].storage


def test_an_old_error_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    directory = tmp_path / "trials" / "0000"
    directory.mkdir(parents=True)
    (directory / ERROR).write_text("ValueError: of yesterday")
    assert attempt(retries, tmp_path).wait == 0
    assert [a["how"] for a in read_attempts(directory)] == ["died"]
