"""The study: whole trials or none, told once, in any database."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from booster_ray.config import Choice, Config, ConfigError, FloatRange, IntRange, load
from booster_ray.store.files import STUDY
from booster_ray.tune import study as studies

SPACE = {
    "rewards.height": FloatRange(0.5, 2.0),
    "sac.actor_hidden": Choice(([32], [64, 32])),
    "sac.batch_size": IntRange(32, 512, log=True),
    "sac.critic_lr": FloatRange(1e-4, 1e-3, log=True),
}


def config(**tune: object) -> Config:
    return Config.model_validate({"name": "s", "tune": tune})


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_trial_is_asked_with_all_its_parameters_at_once(tmp_path: Path, sampler: str) -> None:
    study = studies.open_study(config(), tmp_path)
    assert [studies.ask(study, SPACE, sampler, seed=3) for _ in range(8)] == list(range(8))
    # Read back by another process, so to say.
    trials = studies.open_study(config(), tmp_path).get_trials()
    assert {t.state for t in trials} == {TrialState.RUNNING}
    for trial in trials:
        params = studies.params_of(SPACE, trial)
        assert set(params) == set(SPACE) and params["sac.actor_hidden"] in ([32], [64, 32])
        assert 32 <= params["sac.batch_size"] <= 512
    assert len({t.params["rewards.height"] for t in trials}) == 8


def test_draws_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = studies.open_study(config(), tmp_path / "a")
    for _ in range(4):
        studies.ask(whole, SPACE, "random", seed=1)
    for _ in range(4):  # a driver each
        studies.ask(studies.open_study(config(), tmp_path / "b"), SPACE, "random", seed=1)
    parts = studies.open_study(config(), tmp_path / "b")
    assert [t.params for t in whole.get_trials()] == [t.params for t in parts.get_trials()]


def test_the_first_told_counts(tmp_path: Path) -> None:
    study = studies.open_study(config(), tmp_path)
    for _ in range(2):
        studies.ask(study, SPACE, "random", seed=1)
    studies.tell(study, 0, [1.5])
    studies.tell(study, 0, [9.0])
    studies.tell(study, 0, None)
    studies.tell(study, 1, None)
    first, second = study.get_trials()
    assert (first.state, first.value) == (TrialState.COMPLETE, 1.5)
    assert second.state == TrialState.FAIL


def test_two_objectives(tmp_path: Path) -> None:
    both = config(objectives=["score", "robustness"], scheduler="none")
    study = studies.open_study(both, tmp_path)
    for number in range(8):
        studies.ask(study, SPACE, "tpe", seed=1)
        studies.tell(study, number, [number % 3, -number])
    assert {t.number for t in study.best_trials} == {0, 1, 2}


def test_another_database_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path / "shared.db"))
    shared = config(study_url="sqlite:///$WHERE")
    studies.refuse_taken(shared, "x.yaml")
    studies.ask(studies.open_study(shared, tmp_path), SPACE, "random", seed=1)
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'shared.db'}") == ["s"]
    assert not (tmp_path / STUDY).exists()
    with pytest.raises(ConfigError, match=r"x\.yaml: name: study 's' exists at tune\.study_url"):
        studies.refuse_taken(shared, "x.yaml")


@pytest.mark.parametrize(
    "url", ["sqlite:////no/such/folder/x.db", "nonsense", "postgresql://u:${WORD}@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_opened_is_one_line_without_the_password(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "secret")
    with pytest.raises(ConfigError, match=r"^tune\.study_url: cannot open") as caught:
        studies.open_study(config(study_url=url), tmp_path)
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
    shared = config(study_url="postgresql://me:${STUDY_PASSWORD}@db/x")
    with pytest.raises(ConfigError, match=r"^tune\.study_url: names \$STUDY_PASSWORD, expected"):
        studies.open_study(shared, tmp_path)
    assert "${STUDY_PASSWORD}" in shared.to_yaml()
