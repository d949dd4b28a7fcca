"""Ray Tune's searcher over a ledger that outlives the driver."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune.search import Searcher

from booster_ray.config import Sweep
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import last_env_steps
from booster_ray.store.files import ERROR, trial_directory
from booster_ray.store.lock import retired
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.ledger import End, verdict_of
from booster_ray.tune.patience import patiently, reachable
from booster_ray.tune.records import TrialRecord, finite
from booster_ray.tune.retry import Retries
from booster_ray.tune.stop import Stop
from booster_ray.tune.study import SweepStudy

Read = Callable[[int], TrialRecord]
"""What is recorded of a trial, by its number."""
Avoid = Callable[[], tuple[str, ...]]


class RetryingSearch(Searcher):
    """Suggests trials until each has ended; a suggestion is one attempt at a trial.

    To Ray Tune every attempt is a trial of its own, so that whether, when and where a trial goes
    on is decided here, from what its directory says, and not by the kind of Ray's error. Unlike
    ``OptunaSearch`` it keeps nothing that is not in the ledger or in a directory.

    Args:
        study: of the sweep.
        read: what is recorded of a trial.
        sharing: the sweep's folder.
        sweep: its config.
        capacity: how many trials can run now.
        stop: once it stops, nothing more is suggested.
        stopped: numbers of trials that the scheduler has ended early.
        avoid: machines that cannot work now, by Ray's ids; attempts are kept off them, and what
            fails of those that began before that was known is not the trial's fault.
    """

    def __init__(
        self,
        study: SweepStudy,
        read: Read,
        sharing: SweepMirror,
        sweep: Sweep,
        capacity: Callable[[], int],
        stop: Stop,
        stopped: Collection[int] = (),
        avoid: Avoid = tuple,
    ) -> None:
        super().__init__()
        self._study, self._read, self._config = study, read, sweep.base()
        self._sharing, self._root, self._sweep, self._stop = sharing, sharing.root, sweep, stop
        self._capacity, self._stopped, self._avoid = capacity, stopped, avoid
        self._avoided: dict[str, tuple[str, ...]] = {}
        """Of attempts under way: the machines that they were kept off."""
        self._retries = Retries(self._root, self._config.tune.max_failures)
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
        """What :func:`booster_ray.tune.trial.run_trial` gets for a trial, but for where it is."""

    def repeat(self, number: int) -> int:
        """At which of a trial's seeds its attempts are now."""
        return 0

    @abstractmethod
    def ended(self, number: int, end: End) -> None:
        """A trial has come to its end: by itself, by the scheduler, or without another attempt.

        Of several seeds it is the one that :meth:`repeat` says.
        """

    def target(self, number: int) -> int:
        """Env steps at which a trial that is suggested ends by itself."""
        return self._study.target(number)

    def tell(self, number: int, end: End) -> None:
        """Settle how a trial has ended; without its objectives it has failed."""
        verdict = verdict_of(self._read(number), self._config.tune.objectives, end)
        self._study.tell(number, verdict)

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
        directory, repeat = patiently(lambda: self._run(chosen)), self.repeat(chosen)
        patiently(lambda: self._sharing.share_attempts(directory))
        attempt = patiently(lambda: self._retries.begin(chosen, repeat))
        patiently(self._sharing.share)
        self._numbers[trial_id] = number
        avoid = self._avoided[trial_id] = self._avoid()
        told = {"attempt": attempt, "avoid": list(avoid)}
        return {**patiently(lambda: self.config_of(chosen)), **told}

    def _run(self, number: int) -> Path:
        """The folder of the run that a trial's attempts are at."""
        return trial_directory(self._root, number, self.repeat(number))

    def _due(self) -> int | None:
        now = time.monotonic()
        due = next((entry for entry in self._waiting if entry[0] <= now), None)
        if due is None:
            return None
        self._waiting.remove(due)
        return due[1]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Show a score in the study, whose steps are those of the first seed."""
        number = self._numbers[trial_id]
        if "score" in result and not self.repeat(number):
            self._study.report(number, result["env_steps"], finite(result["score"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle what has ended, once; try again, or leave to the next driver, what has not."""
        number = self._numbers.pop(trial_id)
        begun = self._avoided.pop(trial_id, ())
        # An absent folder looks like one without scores and errors: wait until it is back.
        patiently(lambda: reachable(self._root))
        patiently(lambda: self._sharing.collect(self._run(number)))
        if error and set(self._avoid()) - set(begun):
            self._waiting.append((time.monotonic(), number))  # a machine's fault, see `avoid`
        elif error:
            self._judge(number)
        elif (result or {}).get("finished") or patiently(lambda: self._done(number)):
            patiently(lambda: self.ended(number, "COMPLETE"))
        elif number in self._stopped and not self.repeat(number):
            patiently(lambda: self.ended(number, "PRUNED"))
        elif not patiently(self._stopping):
            self._judge(number)
        patiently(self._sharing.share)

    def _done(self, number: int) -> bool:
        return last_env_steps(self._run(number)) >= self.target(number)

    def _stopping(self) -> bool:
        """Whether trials end early because somebody has asked for it, wherever they asked."""
        if not self._stop.heard() and self._sharing.stop_wanted():
            self._stop.request("A stop is requested on the storage")
        return self._stop.requested

    def _judge(self, number: int) -> None:
        verdict = patiently(lambda: self._retries.judge(number, self.repeat(number)))
        patiently(lambda: self._sharing.share_attempts(self._run(number)))
        if verdict.wait is not None:
            self._waiting.append((time.monotonic() + verdict.wait, number))
        elif verdict.storage:
            self._stop.request(f"trial {number:04d} cannot use its storage: {verdict.text}")
        else:
            patiently(lambda: self.ended(number, "FAIL"))

    # Tune pickles its parts for Tuner.restore, which a sweep does not need: the ledger is all.
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is in its storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class StudySearch(RetryingSearch):
    """First what an earlier driver left unfinished, then new trials; see the base for arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unfinished = [t.number for t in self._study.trials(TrialState.RUNNING)]
        self._asked = len(self._study.entered())
        self._over: set[Path] = set()
        """Runs of trials that have ended, whose processes may be ending yet."""
        self._repeats: dict[int, int] = {}
        """Trial -> its first seed that has not come to its end."""

    def next_trial(self) -> int | None:
        """See :class:`RetryingSearch`."""
        if self._unfinished:
            return self._unfinished.pop(0)
        while not self.exhausted():
            number = self._study.ask()
            self._asked += 1
            if not self._study.trial(number).state.is_finished():
                return number
            self._refuse(number)
        return None

    def exhausted(self) -> bool:
        """See :class:`RetryingSearch`."""
        return self._asked >= self._study.wanted()

    def config_of(self, number: int) -> dict[str, Any]:
        """``number``, ``params`` and ``repeat``."""
        params = self._study.params(number)
        return {"number": number, "params": params, "repeat": self.repeat(number)}

    def repeat(self, number: int) -> int:
        """See :class:`RetryingSearch`; after a resume it is read from what is recorded."""
        last = self._config.tune.seeds - 1
        if not last:
            return 0
        if number not in self._repeats:
            record = self._read(number)
            ended = (self._has_ended(record, repeat) for repeat in range(last))
            self._repeats[number] = next((r for r, over in enumerate(ended) if not over), last)
        return self._repeats[number]

    def _has_ended(self, record: TrialRecord, repeat: int) -> bool:
        """Whether one of a trial's seeds is trained, and measured."""
        steps = int(record.run(repeat).history.latest("env_steps") or 0)
        return steps >= self._study.target(record.number) and self._is_known(record, repeat)

    def _is_known(self, record: TrialRecord, repeat: int) -> bool:
        values = map(record.run(repeat).objective, self._config.tune.objectives)
        return None not in values

    def ended(self, number: int, end: End) -> None:
        """Settle the objectives, or begin the next seed; without a finite one a trial has failed.

        The next seed comes before trials that are new: what has begun is ended first.
        """
        directory, repeat = self._run(number), self.repeat(number)
        if end != "FAIL" and not self._is_known(self._read(number), repeat):
            end = "FAIL"
            if not (directory / ERROR).exists():
                directory.mkdir(parents=True, exist_ok=True)
                replace_text(directory / ERROR, "no finite score was reached")
        if end == "COMPLETE" and repeat + 1 < self._config.tune.seeds:
            self._repeats[number] = repeat + 1
            self._waiting.append((time.monotonic(), number))
            return
        self.tell(number, end)
        # A trial that the scheduler stops could not drop its replay itself.
        if not self._config.checkpoint.keep_replay:
            self._over = {run for run in {directory, *self._over} if not retired(run)}

    def _refuse(self, number: int) -> None:
        """Say in its directory why an enqueued trial cannot run."""
        directory = trial_directory(self._root, number)
        replace_text(directory / ERROR, self._study.ledger.verdicts[number].error or "")
