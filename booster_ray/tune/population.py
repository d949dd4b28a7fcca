"""Population based training: weak members go on from strong ones' checkpoints, with other settings.

Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846, in generations: all members train to the
same env step, then the weakest quarter copies the strongest and perturbs its settings. Generations
cost the wait for the slowest member and buy that the outcome depends on the seed alone, whatever
is killed on the way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import optuna
from optuna.trial import TrialState

from booster_ray.config import Choice, Distribution, IntRange, Sweep
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import storing
from booster_ray.store.files import (
    ATTEMPTS,
    ATTEMPTS_ARRAY,
    CONFIG,
    FAILURE_FILES,
    PROGRESS,
    RUN_ID,
    STALL,
    SYSTEM,
    read_progress,
)
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.records import finite
from booster_ray.tune.search import RetryingSearch, Score
from booster_ray.tune.stop import Stop
from booster_ray.tune.study import ask, params_of, tell
from booster_ray.tune.trial import trial_directory

POPULATION = "population.json"
QUARTER = 0.25
"""Share of members that are replaced, and of those that they copy."""
FACTORS = (0.8, 1.25)
"""A setting is multiplied by one of these."""
RESAMPLED = 0.25
"""Chance that a setting is drawn anew instead."""
OWN = {CONFIG, PROGRESS, ATTEMPTS, ATTEMPTS_ARRAY, *FAILURE_FILES, RUN_ID, SYSTEM}
OWN |= {"mlflow_run", "videos", STALL}
"""What a member keeps when it copies another, besides its best checkpoint."""

Params = dict[str, Any]


class Generation(TypedDict):
    """Members between two comparisons."""

    until: int
    """Env steps at which they are compared."""
    params: dict[str, Params]
    """Settings by the member's number."""
    copied: dict[str, int]
    """Member -> the one whose checkpoint it begins with."""
    ready: bool
    """Whether the copies are made."""


class PopulationSearch(RetryingSearch):
    """Suggests each member once a generation.

    Args:
        study: its trials are the members; each is told its best score at the end.
        score: objectives of a member.
        sharing: see :class:`RetryingSearch`, also for the rest.
    """

    def __init__(
        self,
        study: optuna.Study,
        score: Score,
        sharing: SweepMirror,
        sweep: Sweep,
        capacity: Callable[[], int],
        stop: Stop,
    ) -> None:
        super().__init__(sharing, sweep, capacity, stop)
        self._study, self._score, self._config = study, score, sweep.base()
        self._enter_members()
        self._generations = read_generations(self._root) or [self._first()]
        self._prepare()

    def _enter_members(self) -> None:
        tune, seed = self._config.tune, self._config.seed
        while len(self._study.get_trials(deepcopy=False)) < tune.trials:
            ask(self._study, self._sweep.space, tune.sampler, seed)

    def _first(self) -> Generation:
        trials = self._study.get_trials(deepcopy=False)
        params = {str(t.number): params_of(self._sweep.space, t) for t in trials}
        return {"until": self._until(0), "params": params, "copied": {}, "ready": True}

    def _until(self, generation: int) -> int:
        every = self._config.tune.perturb_env_steps
        return min((generation + 1) * every, self._config.training.env_steps)

    def _prepare(self) -> None:
        """Copies first, then everyone alive is to train; cut short by storage, do it again."""
        now = self._generations[-1]
        if not now["ready"]:
            self._write(self._generations)
            for target, source in now["copied"].items():
                copy_run(self._directory(source), self._directory(int(target)))
        ready = now.copy()
        ready["ready"] = True
        self._write([*self._generations[:-1], ready])
        self._generations[-1] = ready
        self._left = self._alive()
        self._unfinished = set(self._left)

    def _write(self, generations: list[Generation]) -> None:
        replace_text(self._root / POPULATION, json.dumps(generations, indent=1) + "\n")

    def _directory(self, number: int) -> Path:
        return trial_directory(self._root, number)

    def _alive(self) -> list[int]:
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in trials]

    def next_trial(self) -> int | None:
        """See :class:`RetryingSearch`."""
        return self._left.pop(0) if self._left else None

    def exhausted(self) -> bool:
        """See :class:`RetryingSearch`."""
        return not self._unfinished

    def config_of(self, number: int) -> dict[str, Any]:
        """``number``, ``params`` and ``until``, the env steps of the generation's end."""
        now = self._generations[-1]
        return {"number": number, "params": now["params"][str(number)], "until": now["until"]}

    def ended(self, number: int) -> None:
        """The last member to end a generation begins the next, or the end."""
        self._unfinished.discard(number)
        self._close()

    def failed(self, number: int) -> None:
        """The population goes on without it."""
        tell(self._study, number, None)
        self._unfinished.discard(number)
        self._close()

    def _close(self) -> None:
        if self._unfinished:
            return
        if self._generations[-1]["until"] >= self._config.training.env_steps:
            for number in self._alive():
                tell(self._study, number, self._score(number))
            return
        if self._generations[-1]["ready"]:  # else this is another try at preparing the next
            self._generations.append(self._next())
        self._prepare()

    def _next(self) -> Generation:
        now, index = self._generations[-1], len(self._generations)
        scores = {number: _last_score(self._directory(number)) for number in self._alive()}
        rng = np.random.default_rng([self._config.seed, index])
        copied = exploit(scores, rng)
        params = {
            str(number): explore(
                self._sweep.space, now["params"][str(copied.get(number, number))], rng
            )
            if number in copied
            else now["params"][str(number)]
            for number in sorted(scores)
        }
        return {
            "until": self._until(index),
            "params": {**now["params"], **params},
            "copied": {str(target): source for target, source in copied.items()},
            "ready": False,
        }


def read_generations(root: Path) -> list[Generation]:
    """What is recorded of a population, oldest generation first.

    Raises:
        OSError: it cannot be read.
    """
    try:
        found: list[Generation] = json.loads((root / POPULATION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


def exploit(scores: Mapping[int, float], rng: np.random.Generator) -> dict[int, int]:
    """Which members copy which: the weakest quarter, each one of the strongest (truncation)."""
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    few = min(max(1, int(len(ranked) * QUARTER)), len(ranked) // 2)
    return {number: int(rng.choice(ranked[:few])) for number in ranked[len(ranked) - few :]}


def explore(space: Mapping[str, Distribution], params: Params, rng: np.random.Generator) -> Params:
    """Settings near ``params``, within the space."""
    return {key: _perturbed(found, params[key], rng) for key, found in space.items()}


def _perturbed(found: Distribution, value: Any, rng: np.random.Generator) -> Any:
    anew, up = rng.random() < RESAMPLED, int(rng.integers(2))
    if isinstance(found, Choice):
        at = [repr(one) for one in found.values].index(repr(value))
        size = len(found.values)
        return found.values[int(rng.integers(size)) if anew else (at + 2 * up - 1) % size]
    low, high = float(found.low), float(found.high)
    if anew:
        drawn = rng.uniform(*np.log([low, high])) if found.log else rng.uniform(low, high)
        changed = float(np.exp(drawn)) if found.log else float(drawn)
    else:
        changed = value * FACTORS[up]
    inside = min(max(changed, low), high)
    return round(inside) if isinstance(found, IntRange) else inside


@storing()
def copy_run(source: Path, target: Path) -> None:
    """Put the checkpoints of ``source`` in the place of the target's; cut short, do it again."""
    fresh = target.with_name(f".{target.name}.copy")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=lambda _, names: [n for n in names if _own(n)])
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if not _own(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(fresh.iterdir()):
        path.rename(target / path.name)
    shutil.rmtree(fresh)


def _own(name: str) -> bool:
    return name in OWN or name.startswith(("best_", "stderr-", "."))


def _last_score(directory: Path) -> float:
    scores = [finite(m["score"]) for m in read_progress(directory) if "score" in m]
    known = [score for score in scores if score is not None]
    return known[-1] if known else float("-inf")
