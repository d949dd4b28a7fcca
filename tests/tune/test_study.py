"""The study: a view of the ledger that samplers, dashboards and users share, in any database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from booster_ray.config import ConfigError, Sweep, load
from booster_ray.store.database import sqlite_url
from booster_ray.store.files import SPEC, STUDY, VERDICT
from booster_ray.tune import study as studies
from booster_ray.tune.ledger import Ledger, Verdict
from booster_ray.tune.study import SweepStudy, remembered, thinned

SPACE = (
    "rewards.height={search: uniform, low: 0.5, high: 2.0}",
    "sac.actor_hidden={search: choice, values: [[32], [64, 32]]}",
    "sac.batch_size={search: logint, low: 32, high: 512}",
    "sac.critic_lr={search: loguniform, low: 1.0e-4, high: 1.0e-3}",
    "randomization.level=0",
)


def sweep(*overrides: str) -> Sweep:
    return load("debug", ["name=s", *SPACE, *overrides])


def opened(root: Path, *overrides: str) -> SweepStudy:
    """As by a new driver on this machine."""
    ledger = Ledger(root)
    ledger.read()
    return SweepStudy(sweep(*overrides), root, ledger)


def shown(root: Path) -> list[FrozenTrial]:
    """What a dashboard sees."""
    return at(root).get_trials()


def at(root: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=sqlite_url(root / STUDY))


def complete(value: float, **more: Any) -> Verdict:
    return Verdict("COMPLETE", [value], **more)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_trial_is_asked_with_all_its_parameters_at_once(tmp_path: Path, sampler: str) -> None:
    study = opened(tmp_path, f"tune.sampler={sampler}")
    assert [study.ask() for _ in range(8)] == list(range(8))
    study.flush()
    again = opened(tmp_path, f"tune.sampler={sampler}")
    for number, row in enumerate(shown(tmp_path)):
        params = again.params(number)
        assert params == study.params(number) and set(params) == set(sweep().space) == set(
            row.params
        )
        assert params["sac.actor_hidden"] in ([32], [64, 32])
        assert 32 <= params["sac.batch_size"] <= 512
        assert row.state == again.trial(number).state == TrialState.RUNNING
    assert len({study.params(n)["rewards.height"] for n in range(8)}) == 8


def test_draws_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = opened(tmp_path / "a", "tune.sampler=random")
    for _ in range(4):
        whole.ask()
    for _ in range(4):  # a driver each
        opened(tmp_path / "b", "tune.sampler=random").ask()
    parts = opened(tmp_path / "b")
    assert [t.params for t in whole.trials()] == [t.params for t in parts.trials()]


def test_draws_of_a_seeded_sweep_stay_what_they_were(tmp_path: Path) -> None:
    """As Optuna draws them from a study in a database of its own."""
    url = sqlite_url(tmp_path / "plain.db")
    plain = optuna.create_study(study_name="plain", storage=url, direction="maximize")
    study = opened(tmp_path)
    for number in range(9):
        drawing = studies.make_sampler("tpe", sweep().base().seed + number)
        blank = create_trial(state=TrialState.RUNNING)
        blank.number = number
        assert study.ask() == number
        distributions = study.trial(number).distributions
        keys = [key for key in sweep().space if key in distributions]
        params = {k: drawing.sample_independent(plain, blank, k, distributions[k]) for k in keys}
        assert study.trial(number).params == params
        row = create_trial(
            state=TrialState.RUNNING, params=params, distributions=dict(distributions)
        )
        plain.add_trial(row)
        if number != 6:  # one is still running
            study.tell(number, complete(number % 4))
            plain.tell(number, number % 4)


def test_the_first_told_counts(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for _ in range(2):
        study.ask()
    study.tell(0, complete(1.5))
    study.tell(0, complete(9.0))
    study.tell(0, Verdict("FAIL", None))
    study.tell(1, Verdict("FAIL", None, "ValueError: x"))
    study.flush()
    for first, second in (study.trials(), shown(tmp_path), opened(tmp_path).trials()):
        assert (first.state, first.value) == (TrialState.COMPLETE, 1.5)
        assert second.state == TrialState.FAIL
    assert study.ledger.verdicts[1].error == "ValueError: x"


def test_two_objectives(tmp_path: Path) -> None:
    study = opened(tmp_path, "tune.objectives=[score, robustness]", "tune.scheduler=none")
    for number in range(8):
        study.ask()
        study.report(number, 100, 1.0)  # a study of two objectives has no place for it
        study.tell(number, Verdict("COMPLETE", [number % 3, -number], scores=[[100, 1.0]]))
    study.flush()
    assert {t.number for t in at(tmp_path).best_trials} == {0, 1, 2}


def test_scores_go_to_the_study_and_a_stopped_trial_is_pruned(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for _ in range(2):
        study.ask()
    for step, score in ((0, 9.0), (100, 1.0), (200, 3.0), (100, 1.0)):
        study.report(0, step, score)
    study.tell(0, Verdict("PRUNED", [3.0], scores=[[100, 1.0], [200, 3.0], [300, 2.0]]))
    study.report(0, 400, 5.0)  # came late
    study.flush()
    for trial in (study.trial(0), shown(tmp_path)[0], opened(tmp_path).trial(0)):
        assert trial.state == TrialState.PRUNED and trial.value == 3.0
        assert trial.intermediate_values == {100: 1.0, 200: 3.0, 300: 2.0}
    # What the settings are worth is asked of all that have a score.
    assert [t.state for t in study.scored().trials] == [TrialState.COMPLETE]


def test_what_a_user_enqueues_runs_with_what_is_fixed(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.ask()
    user = at(tmp_path)
    # Outside of what is searched, but a user's choice; a list as it is or as Optuna has it.
    user.enqueue_trial({"rewards.height": 3.5, "sac.actor_hidden": [64, 32]}, {"memo": "baseline"})
    user.enqueue_trial({"sac.actor_hidden": "[32]"})
    assert [study.ask() for _ in range(3)] == [1, 2, 3]
    assert study.params(1)["rewards.height"] == 3.5
    assert study.params(1)["sac.actor_hidden"] == [64, 32]
    assert study.params(2)["sac.actor_hidden"] == [32] and set(study.params(2)) == set(
        sweep().space
    )
    study.tell(1, complete(1.0))
    study.flush()
    (tmp_path / STUDY).unlink()  # as on another machine
    for trials in (study.trials(), opened(tmp_path).trials(), shown(tmp_path)):
        states = [TrialState.RUNNING, TrialState.COMPLETE, *[TrialState.RUNNING] * 2]
        assert [t.state for t in trials] == states
    assert shown(tmp_path)[1].user_attrs == {"memo": "baseline"}


def test_an_enqueued_trial_draws_the_rest_as_its_number_would(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    plain, queued = (opened(tmp_path / name, "tune.sampler=random") for name in "ab")
    at(tmp_path / "b").enqueue_trial({})
    plain.ask(), queued.ask()
    assert plain.params(0) == queued.params(0)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"reward.height": 1.0}, "it was enqueued with 'reward.height', expected "),
        ({"sac.actor_hidden": [7]}, r"it was enqueued with sac.actor_hidden: \[7\], not of "),
        ({"sac.batch_size": 1.5}, "it was enqueued with sac.batch_size: 1.5, not of "),
        ({"sac.critic_lr": 0}, "it was enqueued with sac.critic_lr: 0, not of "),
    ],
)
def test_what_cannot_be_is_told_as_failed(tmp_path: Path, given: Any, line: str) -> None:
    study = opened(tmp_path)
    at(tmp_path).enqueue_trial(given)
    assert study.ask() == 0 and study.trial(0).state == TrialState.FAIL
    study.flush()
    verdict = opened(tmp_path).ledger.verdicts[0]
    assert verdict.state == "FAIL" and re.match(line, verdict.error or "")
    assert shown(tmp_path)[0].state == TrialState.FAIL


def test_what_a_user_adds_between_is_taken_in(tmp_path: Path) -> None:
    """Finished trials of another study, and one that is given up by hand."""
    study = opened(tmp_path)
    study.ask()
    row = create_trial(
        value=7.0,
        params={"rewards.height": 1.0, "other": 3.0},
        distributions={"rewards.height": FloatDistribution(0, 9), "other": FloatDistribution(0, 9)},
    )
    at(tmp_path).add_trial(row)
    assert study.ask() == 2
    assert [t.value for t in study.trials()] == [None, 7.0, None]
    assert study.params(1) == {"rewards.height": 1.0}
    study.flush()
    at(tmp_path).tell(2, state=TrialState.FAIL)
    again = opened(tmp_path)
    assert again.ledger.verdicts[2].state == "FAIL" and again.ledger.verdicts[1].values == [7.0]
    assert shown(tmp_path)[1].params == row.params  # nothing of the user's is lost


@pytest.mark.parametrize("same_driver", [True, False])
@pytest.mark.parametrize("died", ["before the row", "after the row", "after the spec"])
def test_a_driver_cut_short_as_it_asks_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: str, same_driver: bool
) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = opened(tmp_path / "a")
    assert [whole.ask(), whole.ask()] == [0, 1]
    study = opened(tmp_path / "b")
    study.ask()
    study.flush()

    def dies(*_: Any) -> None:
        raise OSError("away")

    with monkeypatch.context() as patched:
        where, what = {
            "before the row": (study._database, "create_new_trial"),
            "after the row": (study.ledger, "enter"),
            "after the spec": (study._memory, "set_trial_state_values"),
        }[died]
        patched.setattr(where, what, dies)
        with pytest.raises(OSError, match="away"):
            study.ask()
    if not same_driver:
        study = opened(tmp_path / "b")
    if same_driver or died != "after the spec":
        assert study.ask() == 1
    assert [t.number for t in study.trials(TrialState.RUNNING)] == [0, 1]
    assert study.params(1) == whole.params(1)
    study.flush()
    assert [t.state for t in shown(tmp_path / "b")] == [TrialState.RUNNING] * 2


def test_a_study_that_contradicts_the_ledger_is_made_anew(tmp_path: Path) -> None:
    """Two machines went on from one point, each with a file of its own."""
    study = opened(tmp_path)
    for _ in range(2):
        study.ask()
    study.flush()
    at(tmp_path).set_user_attr("of", "the study")
    for number, value in ((0, 5.0), (1, 6.0)):
        at(tmp_path).tell(number, value)
    opened(tmp_path)
    for path in (tmp_path / "trials" / "0001").glob("*.json"):
        path.unlink()
    text = (tmp_path / "trials" / "0000" / VERDICT).read_text()
    (tmp_path / "trials" / "0000" / VERDICT).write_text(text.replace("5.0", "4.0"))
    (tmp_path / "trials" / "0001").rmdir()
    again = opened(tmp_path)
    # The ledger's value stands; what the study alone knew has gone into the ledger.
    assert [t.value for t in again.trials()] == [t.value for t in shown(tmp_path)] == [4.0, 6.0]


def test_a_damaged_study_is_made_anew_and_kept_aside(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.ask()
    study.tell(0, complete(1.0))
    study.flush()
    (tmp_path / STUDY).write_bytes(b"no database" * 1000)
    with pytest.warns(UserWarning, match=r"study\.db is damaged: it is now study\.db\.damaged"):
        assert opened(tmp_path).trial(0).value == 1.0
    assert [t.value for t in shown(tmp_path)] == [1.0]
    (tmp_path / STUDY).write_bytes(b"no database" * 1000)
    (tmp_path / "trials" / "0000" / SPEC).unlink()
    with pytest.raises(ConfigError, match="cannot open the study's database"):
        opened(tmp_path)  # nothing to make it from


def test_of_many_trials_tpe_reads_the_best_and_the_newest() -> None:
    def ended(number: int, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
        trial = create_trial(state=state, value=value, intermediate_values={100: value})
        trial.number = number
        return trial

    few = [ended(n, n % 7) for n in range(250)]
    assert remembered(few) == few
    many = [ended(n, -n) for n in range(900)]
    many += [ended(900, 99.0, TrialState.PRUNED), create_trial(state=TrialState.RUNNING)]
    kept = remembered(many)
    # The first 25 are the best: a stopped one's score is not that of one that ran to its end.
    assert [t.number for t in kept[:25]] == list(range(25))
    assert [t.number for t in kept[25:-1]] == list(range(676, 901)) and kept[-1] is many[-1]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 200])
def test_a_thinned_curve_ends_where_the_whole_does(count: int) -> None:
    scores = [[100 * (i + 1), float(i)] for i in range(count)]
    kept = thinned(scores, 16)
    assert len(kept) <= 16 and kept[-1:] == scores[-1:] and kept == sorted(kept)
    assert count > 16 or kept == scores
    assert thinned(scores, 1) == scores[-1:]


def test_another_database_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path / "shared.db"))
    shared = sweep("tune.study_url=sqlite:///$WHERE")
    studies.refuse_taken(shared.base(), "x.yaml")
    opened(tmp_path, "tune.study_url=sqlite:///$WHERE").ask()
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'shared.db'}") == ["s"]
    assert not (tmp_path / STUDY).exists()
    with pytest.raises(ConfigError, match=r"x\.yaml: name: study 's' exists at tune\.study_url"):
        studies.refuse_taken(shared.base(), "x.yaml")


@pytest.mark.parametrize(
    "url", ["sqlite:////no/such/folder/x.db", "nonsense", "postgresql://u:${WORD}@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_opened_is_one_line_without_the_password(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "secret")
    with pytest.raises(ConfigError, match=r"^tune\.study_url: cannot open") as caught:
        opened(tmp_path, f"tune.study_url={url}")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_password_does_not_stand_in_a_config() -> None:
    with pytest.raises(ConfigError, match=r"tune\.study_url: has a password") as caught:
        load("debug", ["tune.study_url=postgresql://me:secret@db/x"])
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"tune\.study_url: has a password") as caught:
        load("debug", ["tune.study_url=postgresql://db/x?user=me&password=secret"])
    assert "secret" not in str(caught.value)
    load("debug", ["tune.study_url=postgresql://me@db/x?sslmode=require"])
    load("debug", ["tune.study_url=postgresql://db/x?user=me&password=${WORD}"])


def test_a_variable_of_the_url_that_is_not_set_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_PASSWORD", raising=False)
    url = "tune.study_url=postgresql://me:${STUDY_PASSWORD}@db/x"
    with pytest.raises(ConfigError, match=r"^tune\.study_url: names \$STUDY_PASSWORD, expected"):
        opened(tmp_path, url)
    assert "${STUDY_PASSWORD}" in sweep(url).base().to_yaml()
