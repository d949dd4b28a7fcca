"""Ray Tune's searcher over an Optuna study that outlives the driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from booster_ray.config import Choice, Config, Distribution, IntRange, Sweep


class StudySearch(Searcher):
    """Suggests from a study: first what an earlier driver left unfinished, then new trials.

    Unlike Ray's ``OptunaSearch`` it keeps nothing that is not in the study, so a trial is
    neither lost nor told twice when the driver dies between two of its snapshots, and a score
    that is not finite is told as a failure instead of leaving its trial running for ever.

    Args:
        study: in storage that survives, for example SQLite.
        sweep: its ``space`` is searched.
        trials: how many trials the study shall hold in the end.
        score: best official score of a trial by its number; None when it has none.
        stopping: when true, nothing more is suggested.
    """

    def __init__(
        self,
        study: optuna.Study,
        sweep: Sweep,
        trials: int,
        score: Callable[[int], float | None],
        stopping: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._study, self._space, self._trials = study, sweep.space, trials
        self._tune = sweep.base().tune
        self._seed = sweep.base().seed
        self._score, self._stopping = score, stopping
        self._unfinished = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial as ``{"number": …, "params": {…}}``, or ``Searcher.FINISHED``."""
        if self._stopping():
            return Searcher.FINISHED
        if self._unfinished:
            trial = self._unfinished.pop(0)
        elif len(self._study.get_trials(deepcopy=False)) < self._trials:
            trial = self._ask()
        else:
            return Searcher.FINISHED
        self._numbers[trial_id] = trial.number
        return {"number": trial.number, "params": decode(self._space, trial.params)}

    def _ask(self) -> FrozenTrial:
        # Seeded by the trial's number: a resumed driver must not repeat its first draws.
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(self._tune.sampler, self._seed + number)
        trial = self._study.ask()
        for key, distribution in self._space.items():
            _suggest(trial, key, distribution)
        return self._study.get_trials(deepcopy=False)[trial.number]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study, once; an interrupted trial stays unfinished for the next driver."""
        number = self._numbers.pop(trial_id)
        if not error and (self._stopping() and not (result or {}).get("finished")):
            return
        score = None if error else self._score(number)
        if score is None:
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(number, score, skip_if_finished=True)

    # Tune pickles its parts for Tuner.restore, which a sweep does not need: the study is all.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in its storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """``tpe`` (aware of trials still running) or ``random``."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=5)


def open_study(url: str, config: Config) -> optuna.Study:
    """Create the sweep's study at ``url``, or open it if it is there."""
    return optuna.create_study(
        storage=url,
        study_name=config.name,
        direction="maximize",
        load_if_exists=True,
    )


def _suggest(trial: optuna.Trial, key: str, distribution: Distribution) -> None:
    if isinstance(distribution, Choice):
        trial.suggest_categorical(key, [_encode(value) for value in distribution.values])
    elif isinstance(distribution, IntRange):
        trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
    else:
        trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)


def _encode(value: Any) -> Any:
    """Optuna's categories are scalars; lists travel as JSON."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else json.dumps(value)


def decode(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, Any]:
    """A study's parameters as config values."""
    values: dict[str, Any] = {}
    for key, distribution in space.items():
        value = params[key]
        if isinstance(distribution, Choice):
            value = next(v for v in distribution.values if _encode(v) == value)
        values[key] = value
    return values
