"""Trials that a config lists: each is run once, whatever number it gets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from booster_ray.config import Sweep, load
from booster_ray.store.database import sqlite_url
from booster_ray.store.files import SPEC, STUDY, VERDICT, trial_directory
from booster_ray.tune.ledger import Ledger, Spec, Verdict
from booster_ray.tune.points import Points
from booster_ray.tune.study import SweepStudy

TEXT = """
name: s
experiments:
  a:
  b: {training: {env_steps: 7}}
  c: {sac: {actor_hidden: {search: grid, values: [[8], [8, 8]]}}}
"""
LISTED: list[dict[str, Any]] = [
    {"experiment": "a"},
    {"experiment": "b"},
    {"experiment": "c", "sac.actor_hidden": [8]},
    {"experiment": "c", "sac.actor_hidden": [8, 8]},
]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    file = tmp_path / "c.yaml"
    file.write_text(TEXT)
    return load(file)


def opened(sweep: Sweep, root: Path) -> SweepStudy:
    """As by a new driver."""
    ledger = Ledger(root)
    ledger.read()
    return SweepStudy(sweep, root, ledger)


def database(root: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=sqlite_url(root / STUDY))


def ask_all(study: SweepStudy) -> list[dict[str, Any]]:
    while len(study.entered()) < study.wanted():
        study.ask()
    return [study.params(number) for number in sorted(study.ledger.specs)]


def test_each_number_has_its_place_in_the_list_whoever_drives(sweep: Sweep, tmp_path: Path) -> None:
    study = opened(sweep, tmp_path)
    assert [study.ask(), study.ask()] == [0, 1]
    study.flush()
    study = opened(sweep, tmp_path)
    assert ask_all(study) == LISTED
    assert [study.target(number) for number in (0, 1, 2)] == [500_000, 7, 500_000]
    study.flush()
    assert [row.params for row in database(tmp_path).get_trials()] == [
        {key: v if isinstance(v, str) else json.dumps(v) for key, v in point.items()}
        for point in LISTED
    ]


def test_what_a_user_enqueues_is_another_number_for_the_list(sweep: Sweep, tmp_path: Path) -> None:
    study = opened(sweep, tmp_path)
    database(tmp_path).enqueue_trial({"experiment": "b"})
    database(tmp_path).enqueue_trial({"experiment": "b"})
    database(tmp_path).enqueue_trial({"sac.tau": 0.3})
    assert ask_all(study) == [LISTED[1], LISTED[0], LISTED[2], LISTED[3]]
    assert not study.ledger.verdicts, "none has failed"


def test_a_trial_that_a_user_adds_takes_the_place_of_none(sweep: Sweep, tmp_path: Path) -> None:
    opened(sweep, tmp_path)
    database(tmp_path).add_trial(optuna.trial.create_trial(value=3.0))
    study = opened(sweep, tmp_path)
    assert study.wanted() == 5
    assert sorted(map(json.dumps, ask_all(study)[1:])) == sorted(map(json.dumps, LISTED))


def test_the_database_alone_is_enough_to_go_on(sweep: Sweep, tmp_path: Path) -> None:
    """As after a loss of the trials' folders."""
    study = opened(sweep, tmp_path)
    ask_all(study)
    study.tell(1, Verdict("COMPLETE", [1.0]))
    study.flush()
    shutil.rmtree(tmp_path / "trials")
    study = opened(sweep, tmp_path)
    assert ask_all(study) == LISTED and list(study.ledger.verdicts) == [1]
    assert (trial_directory(tmp_path, 3) / SPEC).exists()
    assert (trial_directory(tmp_path, 1) / VERDICT).exists()


def test_a_place_that_is_taken_is_given_to_nobody_else() -> None:
    points = Points(LISTED)
    points.settle({0: Spec(0, LISTED[3]), 1: Spec(1, {"strange": 1}), 2: Spec(2, LISTED[3])})
    assert (len(points), points.strangers) == (4, 2)
    assert [points.of(number, {}) for number in (3, 4, 5)] == LISTED[:3]
