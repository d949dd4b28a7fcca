"""Population based training: weak members go on from strong ones' checkpoints, with other settings.

Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846, in generations: all members train to the
same env step, then the weakest quarter copies the strongest and perturbs its settings. Generations
cost the wait for the slowest member and buy that the outcome depends on the seed alone, whatever
is killed on the way.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from optuna.trial import TrialState

from booster_ray.config import Choice, Config, Distribution, IntRange, Sweep
from booster_ray.runtime.seeding import stream_generator
from booster_ray.store.durable import names_in
from booster_ray.store.failure import storing
from booster_ray.store.files import (
    ATTEMPTS,
    ATTEMPTS_ARRAY,
    CONFIG,
    FAILURE_FILES,
    POPULATION,
    PROGRESS,
    RUN_ID,
    SPEC,
    STALL,
    SYSTEM,
    VERDICT,
    read_progress,
    trial_directory,
)
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.ledger import End
from booster_ray.tune.records import finite
from booster_ray.tune.search import RetryingSearch
from booster_ray.tune.study import SweepStudy

QUARTER = 0.25
"""Share of members that are replaced, and of those that they copy."""
FACTORS = (0.8, 1.25)
"""A setting is multiplied by one of these."""
RESAMPLED = 0.25
"""Chance that a setting is drawn anew instead."""
OWN = {SPEC, VERDICT, CONFIG, PROGRESS, ATTEMPTS, ATTEMPTS_ARRAY, *FAILURE_FILES, RUN_ID, SYSTEM}
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
    """Suggests each member once a generation; see the base for arguments.

    The study's trials are the members; each is told its best score at the end.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        while len(self._study.entered()) < self._config.tune.trials:
            self._study.ask()
        self._generations = read_generations(self._root) or [self._first()]
        self._prepare()

    def _first(self) -> Generation:
        numbers = [trial.number for trial in self._study.entered()]
        return first_generation(self._config, {n: self._study.params(n) for n in numbers})

    def _prepare(self) -> None:
        """Copies first, then everyone alive is to train; cut short by storage, do it again."""
        now = self._generations[-1]
        if not now["ready"]:
            write_generations(self._sharing, self._generations)
            for target, source in now["copied"].items():
                copy_run(self._directory(source), self._directory(int(target)))
        ready = now.copy()
        ready["ready"] = True
        write_generations(self._sharing, [*self._generations[:-1], ready])
        self._generations[-1] = ready
        self._left = self._alive()
        self._unfinished = set(self._left)

    def _directory(self, number: int) -> Path:
        return trial_directory(self._root, number)

    def _alive(self) -> list[int]:
        return [trial.number for trial in self._study.trials(TrialState.RUNNING)]

    def next_trial(self) -> int | None:
        """See :class:`RetryingSearch`."""
        return self._left.pop(0) if self._left else None

    def exhausted(self) -> bool:
        """See :class:`RetryingSearch`."""
        return not self._unfinished

    def target(self, number: int) -> int:
        """See :class:`RetryingSearch`."""
        return self._generations[-1]["until"]

    def config_of(self, number: int) -> dict[str, Any]:
        """``number``, ``params`` and ``until``, the env steps of the generation's end."""
        now = self._generations[-1]
        return {"number": number, "params": now["params"][str(number)], "until": now["until"]}

    def ended(self, number: int, end: End) -> None:
        """The last member to end a generation begins the next, or the end.

        The population goes on without one that has failed.
        """
        if end == "FAIL":
            self.tell(number, end)
        self._unfinished.discard(number)
        self._close()

    def _close(self) -> None:
        if self._unfinished:
            return
        if self._generations[-1]["until"] >= self._config.training.env_steps:
            for number in self._alive():
                self.tell(number, "COMPLETE")
            return
        if self._generations[-1]["ready"]:  # else this is another try at preparing the next
            scores = {n: _last_score(read_progress(self._directory(n))) for n in self._alive()}
            self._generations.append(next_generation(self._sweep, self._generations, scores))
        self._prepare()


def first_generation(config: Config, params: Mapping[int, Params]) -> Generation:
    """All members, with what they were drawn with."""
    named = {str(number): settings for number, settings in params.items()}
    return {"until": _until(config, 0), "params": named, "copied": {}, "ready": True}


def next_generation(
    sweep: Sweep, generations: Sequence[Generation], scores: Mapping[int, float]
) -> Generation:
    """What follows on the last of ``generations``, at whose end the members had ``scores``."""
    now, index, config = generations[-1], len(generations), sweep.base()
    rng = stream_generator(config.seed, "population", index)
    copied = exploit(scores, rng)
    params = {
        str(number): explore(sweep.space, now["params"][str(copied.get(number, number))], rng)
        if number in copied
        else now["params"][str(number)]
        for number in sorted(scores)
    }
    return {
        "until": _until(config, index),
        "params": {**now["params"], **params},
        "copied": {str(target): source for target, source in copied.items()},
        "ready": False,
    }


def _until(config: Config, generation: int) -> int:
    return min((generation + 1) * config.tune.perturb_env_steps, config.training.env_steps)


def read_generations(root: Path) -> list[Generation]:
    """What is recorded of a population, oldest generation first.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged; see :func:`mend_generations`.
    """
    try:
        found: list[Generation] = json.loads((root / POPULATION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    if not found or any(set(one) != set(Generation.__annotations__) for one in found):
        raise ValueError(f"{root / POPULATION} holds no generations")
    return found


def write_generations(sharing: SweepMirror, generations: Sequence[Generation]) -> None:
    """Keep them where the next driver finds them, on whatever machine. Raises OSError."""
    sharing.keep_text(POPULATION, json.dumps(generations, indent=1) + "\n")


def mend_generations(sweep: Sweep, study: SweepStudy, sharing: SweepMirror) -> None:
    """Make a damaged record of a population anew, from what its members have reported.

    Everything in it follows from the members' first settings, their scores and the seed.

    Raises:
        OSError: the storage cannot be used.
    """
    try:
        read_generations(sharing.root)
        return
    except (ValueError, TypeError, AttributeError):
        pass
    members = {trial.number: study.params(trial.number) for trial in study.entered()}
    runs = {number: trial_directory(sharing.root, number) for number in members}
    reports = {number: read_progress(run) for number, run in runs.items()}
    failed = {trial.number for trial in study.trials(TrialState.FAIL)}
    found = regenerated(sweep, members, reports, failed)
    if len(found) > 1:
        # All copies are made before anybody goes on.
        ends = [(made, _end(made, found[-2]["until"])) for made in reports.values()]
        compared = max(made[end]["env_steps"] for made, end in ends if end is not None)
        found[-1]["ready"] = any(_reached(runs[n], reports[n]) > compared for n in members)
    write_generations(sharing, found)
    warnings.warn(f"{sharing.root / POPULATION} was damaged: made anew", stacklevel=2)


def regenerated(
    sweep: Sweep,
    members: Mapping[int, Params],
    reports: Mapping[int, Sequence[Mapping[str, float]]],
    failed: set[int],
) -> list[Generation]:
    """The generations that members with such reports have gone through, the last one not ready."""
    config = sweep.base()
    found = [first_generation(config, members)]
    while members and found[-1]["until"] < config.training.env_steps:
        until = found[-1]["until"]
        ends = {n: _end(made, until) for n, made in reports.items()}
        arrived = {n: reports[n][: end + 1] for n, end in ends.items() if end is not None}
        if not arrived or members.keys() - arrived.keys() - failed:
            break
        scores = {number: _last_score(made) for number, made in arrived.items()}
        found[-1]["ready"] = True  # its members have trained
        found.append(next_generation(sweep, found, scores))
    return found


def _end(reports: Sequence[Mapping[str, float]], until: int) -> int | None:
    """Place of the report with which a generation ended; None: it did not."""
    return next((i for i, one in enumerate(reports) if one["env_steps"] >= until), None)


def _reached(run: Path, reports: Sequence[Mapping[str, float]]) -> int:
    """Env steps of a run's newest report or checkpoint."""
    steps = [int(name[5:]) for name in names_in(run) if name.startswith("step_")]
    return max((*steps, *(int(one["env_steps"]) for one in reports)), default=0)


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


def _last_score(reports: Sequence[Mapping[str, float]]) -> float:
    scores = [finite(report["score"]) for report in reports if "score" in report]
    known = [score for score in scores if score is not None]
    return known[-1] if known else float("-inf")
