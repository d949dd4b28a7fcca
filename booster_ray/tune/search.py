"""Ray Tune's searcher over an Optuna study that outlives the driver."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from booster_ray.config import Sweep
from booster_ray.store.durable import replace_text
from booster_ray.store.files import ERROR
from booster_ray.store.lock import retired
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.patience import patiently, reachable
from booster_ray.tune.retry import Retries
from booster_ray.tune.stop import Stop
from booster_ray.tune.study import ask, params_of, tell
from booster_ray.tune.trial import trial_directory

Score = Callable[[int], Sequence[float] | None]
"""Objectives of a trial by its number, from its run directory; None when it has none."""


class RetryingSearch(Searcher):
    """Suggests trials until each has ended; a suggestion is one attempt at a trial.

    To Ray Tune every attempt is a trial of its own, so that whether, when and where a trial goes
    on is decided here, from what its directory says, and not by the kind of Ray's error. Unlike
    ``OptunaSearch`` it keeps nothing that is not in the study or in a directory.

    Args:
        sharing: the sweep's folder.
        sweep: its config.
        capacity: how many trials can run now.
        stop: once it stops, nothing more is suggested.
    """

    def __init__(
        self, sharing: SweepMirror, sweep: Sweep, capacity: Callable[[], int], stop: Stop
    ) -> None:
        super().__init__()
        self._sharing, self._root, self._sweep, self._stop = sharing, sharing.root, sweep, stop
        self._capacity = capacity
        self._retries = Retries(self._root, sweep.base().tune.max_failures)
        self._numbers: dict[str, int] = {}
        """Ray's id of an attempt under way -> number of the trial."""
        self._waiting: list[tuple[float, int]] = []
        """When trials may try again, and their numbers."""

    @abstractmethod
    def next_trial(self) -> int | None:
        """A trial that no attempt has been made at by this driver; None: none now."""

    @abstractmethod
    def exhausted(self) -> bool:
        """Whether there will be no more, once those suggested have ended."""

    @abstractmethod
    def config_of(self, number: int) -> dict[str, Any]:
        """What :func:`booster_ray.tune.trial.run_trial` gets for a trial, but for ``root``."""

    @abstractmethod
    def ended(self, number: int) -> None:
        """A trial has come to its end, by itself or by the scheduler."""

    @abstractmethod
    def failed(self, number: int) -> None:
        """A trial gets no further attempt; its directory says why."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """What :meth:`config_of` says of the next trial, ``Searcher.FINISHED``, or None: wait."""
        if self._stop.requested:
            return Searcher.FINISHED
        if len(self._numbers) >= self._capacity():
            return None
        number = self._due()
        if number is None:
            number = patiently(self.next_trial)
        if number is None:
            busy = self._numbers or self._waiting or not self.exhausted()
            return None if busy else Searcher.FINISHED
        chosen = number
        directory = trial_directory(self._root, chosen)
        patiently(lambda: self._sharing.share_attempts(directory))
        attempt = patiently(lambda: self._retries.begin(chosen))
        patiently(self._sharing.share)
        self._numbers[trial_id] = number
        return {**patiently(lambda: self.config_of(chosen)), "attempt": attempt}

    def _due(self) -> int | None:
        now = time.monotonic()
        due = next((entry for entry in self._waiting if entry[0] <= now), None)
        if due is None:
            return None
        self._waiting.remove(due)
        return due[1]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell what has ended, once; try again, or leave to the next driver, what has not."""
        number = self._numbers.pop(trial_id)
        # An absent folder looks like one without scores and errors: wait until it is back.
        patiently(lambda: reachable(self._root))
        patiently(lambda: self._sharing.collect(trial_directory(self._root, number)))
        if error:
            self._judge(number)
        elif not self._stop.requested or (result or {}).get("finished"):
            patiently(lambda: self.ended(number))
        patiently(self._sharing.share)

    def _judge(self, number: int) -> None:
        verdict = patiently(lambda: self._retries.judge(number))
        patiently(lambda: self._sharing.share_attempts(trial_directory(self._root, number)))
        if verdict.wait is not None:
            self._waiting.append((time.monotonic() + verdict.wait, number))
        elif verdict.storage:
            self._stop.request(f"trial {number:04d} cannot use its storage: {verdict.text}")
        else:
            patiently(lambda: self.failed(number))

    # Tune pickles its parts for Tuner.restore, which a sweep does not need: the study is all.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in its storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class StudySearch(RetryingSearch):
    """First what an earlier driver left unfinished, then new trials from the study's sampler.

    Args:
        study: in storage that survives, for example SQLite.
        score: objectives of a trial that has ended.
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
        self._study, self._score = study, score
        self._tune, self._seed = sweep.base().tune, sweep.base().seed
        unfinished = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._unfinished = [trial.number for trial in unfinished]
        self._asked = len(study.get_trials(deepcopy=False))
        self._over: set[int] = set()
        """Trials told of, whose processes may be ending yet."""

    def next_trial(self) -> int | None:
        """See :class:`RetryingSearch`."""
        if self._unfinished:
            return self._unfinished.pop(0)
        if self.exhausted():
            return None
        number = ask(self._study, self._sweep.space, self._tune.sampler, self._seed)
        self._asked = number + 1
        return number

    def exhausted(self) -> bool:
        """See :class:`RetryingSearch`."""
        return self._asked >= self._tune.trials

    def config_of(self, number: int) -> dict[str, Any]:
        """``number`` and ``params``."""
        trial = self._study.get_trials(deepcopy=False)[number]
        return {"number": number, "params": params_of(self._sweep.space, trial)}

    def ended(self, number: int) -> None:
        """Tell the objectives; without a finite one the trial has failed."""
        values = self._score(number)
        directory = trial_directory(self._root, number)
        if values is None and not (directory / ERROR).exists():
            directory.mkdir(parents=True, exist_ok=True)
            replace_text(directory / ERROR, "no finite score was reached")
        tell(self._study, number, values)
        # A trial that the scheduler stops could not drop its replay itself.
        if not self._sweep.base().checkpoint.keep_replay:
            over = {number, *self._over}
            self._over = {one for one in over if not retired(trial_directory(self._root, one))}

    def failed(self, number: int) -> None:
        """Tell the failure."""
        tell(self._study, number, None)
