"""The Optuna study: which trials there are, and how each ended. Told once, whatever dies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from booster_ray.config import Choice, Config, ConfigError, Distribution, IntRange
from booster_ray.config.paths import expanded
from booster_ray.store.database import sqlite_url
from booster_ray.store.files import STUDY

LOCK_SECONDS = 60
"""How long a writer waits for another's lock on the SQLite file."""


def study_url(config: Config, root: Path) -> str:
    """Where the study of the sweep in ``root`` is kept; ``$NAME`` is read from the environment.

    Raises:
        ConfigError: a variable in ``tune.study_url`` is not set.
    """
    if config.tune.study_url is None:
        return sqlite_url(root / STUDY)
    return expanded(config.tune.study_url, "tune.study_url")


def open_study(config: Config, root: Path) -> optuna.Study:
    """Create the sweep's study, or open it if it is there.

    Raises:
        ConfigError: its database cannot be opened.
    """
    url = study_url(config, root)
    return optuna.create_study(
        storage=_storage(url),
        study_name=config.name,
        directions=["maximize"] * len(config.tune.objectives),
        load_if_exists=True,
    )


def refuse_taken(config: Config, source: str) -> None:
    """For a new sweep: a shared database must not hold a study of its name.

    Raises:
        ConfigError: it does, or it cannot be opened.
    """
    if config.tune.study_url is None:
        return
    names = optuna.get_all_study_names(_storage(study_url(config, Path())))
    if config.name in names:
        text = f"study '{config.name}' exists at tune.study_url, expected another name"
        raise ConfigError(source, "name", text)


def _storage(url: str) -> optuna.storages.RDBStorage:
    lite = url.startswith("sqlite:")
    engine = {"connect_args": {"timeout": LOCK_SECONDS}} if lite else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=engine)
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        # SQLAlchemy's texts do not hold the URL, whose password nobody may see.
        text = f"cannot open the study's database: {str(error).splitlines()[0]}"
        raise ConfigError("tune.study_url", text) from None


def ask(study: optuna.Study, space: Mapping[str, Distribution], sampler: str, seed: int) -> int:
    """Enter a new trial, running, with all its parameters; returns its number.

    It is written at once: a driver that dies leaves a whole trial or none. The sampler is seeded
    by the trial's number, so that a resumed driver does not repeat its first draws.
    """
    number = len(study.get_trials(deepcopy=False))
    drawing = make_sampler(sampler, seed + number)
    blank = optuna.trial.create_trial(state=TrialState.RUNNING)
    blank.number = number
    distributions = {key: _optuna(found) for key, found in space.items()}
    params = {
        key: drawing.sample_independent(study, blank, key, found)
        for key, found in distributions.items()
    }
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions
        )
    )
    return number


def tell(study: optuna.Study, number: int, values: Sequence[float] | None) -> None:
    """End a trial with its objectives, or as failed; a trial that has ended stays as it is."""
    if values is None:
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    else:
        study.tell(number, list(values), skip_if_finished=True)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """``tpe`` (aware of trials still running) or ``random``."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=5)


def params_of(space: Mapping[str, Distribution], trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters as config values."""
    values: dict[str, Any] = {}
    for key, distribution in space.items():
        value = trial.params[key]
        if isinstance(distribution, Choice):
            value = next(v for v in distribution.values if _encode(v) == value)
        values[key] = value
    return values


def _optuna(found: Distribution) -> BaseDistribution:
    if isinstance(found, Choice):
        return CategoricalDistribution([_encode(value) for value in found.values])
    if isinstance(found, IntRange):
        return IntDistribution(found.low, found.high, log=found.log)
    return FloatDistribution(found.low, found.high, log=found.log)


def _encode(value: Any) -> Any:
    """Optuna's categories are scalars; lists travel as JSON."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else json.dumps(value)
