"""The main job: start Ray, let the study suggest, run trials, and close with a leaderboard."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import optuna
import ray
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from rich.console import Console

from booster_ray import __version__
from booster_ray.config import Config, Sweep
from booster_ray.runtime.signals import keep_listening, stop_signals
from booster_ray.store.address import Address
from booster_ray.store.attempts import read_attempts
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import storing
from booster_ray.store.files import ERROR, best_checkpoint, trial_directory
from booster_ray.store.gate_results import label
from booster_ray.store.lease import Lease, LeaseLost
from booster_ray.store.progress import History, ProgressReader
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.track.tracked_runs import write_statuses
from booster_ray.train.nodes import check_nodes
from booster_ray.train.preemption import Watch
from booster_ray.train.ray_cluster import cluster_address
from booster_ray.train.ray_train import available_cpus, connect, resources
from booster_ray.tune.budget import Budget
from booster_ray.tune.demand import Demand
from booster_ray.tune.ledger import Ledger
from booster_ray.tune.live import LiveTable
from booster_ray.tune.patience import StorageLost, patiently
from booster_ray.tune.population import PopulationSearch, mend_generations, read_generations
from booster_ray.tune.records import SeedRecord, Status, TrialRecord
from booster_ray.tune.retry import DIED, reason
from booster_ray.tune.robustness import read_robustness
from booster_ray.tune.schedule import SweepASHA, make_scheduler
from booster_ray.tune.search import StudySearch
from booster_ray.tune.stop import Stop
from booster_ray.tune.study import ENDED, SweepStudy
from booster_ray.tune.trial import TrialProcess

REDRAW_SECONDS = 2.0
WAITING_BYTES = 256 * 2**20
"""Memory that a trial's own process claims when a Ray Train worker does its work."""
NEVER = 10**9

T = TypeVar("T", bound=BaseException)

ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours lets trials save first
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # only evaluations report a score
    # Actors that start at a time, as with Tune's own searchers (of others it takes one by one);
    # how many trials there are is the searcher's to say, by its capacity.
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "RAY_AIR_NEW_OUTPUT": "0",
    # What Tune would keep of the sweep for itself, nobody reads.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(NEVER),
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # attempts that are made again are no news
}


class SweepRunner:
    """One driver's share of a sweep; what it does not finish, the next driver does.

    Args:
        sweep: the checked config.
        root: the sweep's folder.
        console: where progress is shown.
        lease: the driver's; None: nobody else can be driving.

    Raises:
        LeaseLost: another process drives the sweep; here and from :meth:`run`.
        ConfigError: the study's database cannot be opened, or a file of the ledger is damaged.
        OSError: the storage cannot be used.
    """

    trainable: type = TrialProcess
    """What Ray Tune runs for an attempt; gets what the search suggests."""

    def __init__(
        self, sweep: Sweep, root: Path, console: Console, lease: Lease | None = None
    ) -> None:
        # Workers have other working directories. Links stay: what they lead to may move.
        self.sweep, self.root, self.config = sweep, root.absolute(), sweep.base()
        self.console, self.lease = console, lease
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sharing = SweepMirror(self.config, self.root, lease)
        self.sharing.fetch()
        ledger = Ledger(self.root, self.sharing.remote, self.sharing.check)
        ledger.read()
        self.study = SweepStudy(sweep, self.root, ledger)
        self.sharing.collect_all(self._run_ends(ledger))
        if self.config.tune.scheduler == "pbt":
            mend_generations(sweep, self.study, self.sharing)
        self.budget = Budget(self.root, self.config.tune)
        self.sharing.stop(wanted=False)
        self.stop = Stop(self.root, self._say)
        self._progress: dict[tuple[int, int], ProgressReader] = {}

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def _run_ends(self, ledger: Ledger) -> dict[Path, int | None]:
        """The folders of all runs, and of those whose trial has ended, at which env step."""
        found: dict[Path, int | None] = {}
        for number in ledger.specs:
            ends: list[int | None] = [None] * self.config.tune.seeds
            if verdict := ledger.verdicts.get(number):
                ends = [verdict.env_steps, *(run["env_steps"] for run in verdict.more)]
            for repeat, end in enumerate(ends):
                found[trial_directory(self.root, number, repeat)] = end
        return found

    def records(self) -> list[TrialRecord]:
        """Every trial that runs or has ended, from its run directory."""
        return [self.record(trial) for trial in self.study.entered()]

    @storing()
    def record(self, trial: FrozenTrial, status: Status | None = None) -> TrialRecord:
        """One trial, from its run directory; ``status`` is that of a trial that has not ended."""
        number, seeds = trial.number, self.config.tune.seeds
        first, *more = self._seed_records(number)
        budget = self.study.target(number)
        done = all((r.history.latest("env_steps") or 0) >= budget for r in (first, *more))
        ended: dict[TrialState, Status] = {
            TrialState.COMPLETE: "TERMINATED" if done else "STOPPED",
            TrialState.PRUNED: "STOPPED",
            TrialState.FAIL: "ERROR",
        }
        record = TrialRecord(
            trial_id=f"{number:04d}",
            number=number,
            status=ended.get(trial.state, status or "PENDING"),
            params=self._params(number),
            history=first.history,
            target_env_steps=budget * seeds,
            checkpoint=None,
            error=self._error(number),
            started=trial_directory(self.root, number).exists(),
            robustness=first.robustness,
            seeds=seeds,
            more=tuple(more),
        )
        directory = trial_directory(self.root, number, record.best_run)
        best = best_checkpoint(directory)
        return replace(
            record,
            checkpoint=str(best) if best else None,
            gates=label(directory),
            interrupted=sum(
                len(read_attempts(trial_directory(self.root, number, repeat)))
                for repeat in range(seeds)
            ),
        )

    def _seed_records(self, number: int) -> list[SeedRecord]:
        """A trial's first run, and those after it that have reported."""
        verdict = self.study.ledger.verdicts.get(number)
        bests = [verdict.best, *(run["best"] for run in verdict.more)] if verdict else []
        found = []
        for repeat in range(self.config.tune.seeds):
            history = self.history(number, repeat)
            if not history and repeat < len(bests) and bests[repeat]:  # its records are lost
                history = History([bests[repeat]])
            if repeat and not history:
                break
            robustness = read_robustness(trial_directory(self.root, number, repeat))
            found.append(SeedRecord(history, robustness))
        return found

    def _error(self, number: int) -> str | None:
        """Why the last attempt at a trial has failed, and at which seed; None: it has not."""
        for repeat in range(self.config.tune.seeds):
            file = trial_directory(self.root, number, repeat) / ERROR
            if file.exists():
                text = file.read_text(encoding="utf-8")
                return f"seed {repeat}: {text}" if repeat else text
        return None

    def history(self, number: int, repeat: int = 0) -> History:
        """The reports of one of a trial's seeds; to look again costs what is new in them."""
        key = number, repeat
        if key not in self._progress:
            self._progress[key] = ProgressReader(trial_directory(self.root, number, repeat))
        return self._progress[key].read()

    def reported(self, record: TrialRecord, repeat: int) -> TrialRecord:
        """A trial that runs, of which nothing has changed but one seed's reports."""
        history = self.history(record.number, repeat)
        if not repeat:
            return replace(record, history=history)
        return replace(record, more=(*record.more[: repeat - 1], SeedRecord(history)))

    def _params(self, number: int) -> dict[str, Any]:
        """A trial's settings now; a population changes them on the way."""
        pbt = self.config.tune.scheduler == "pbt"
        generations = read_generations(self.root) if pbt else []
        changed = generations[-1]["params"].get(str(number)) if generations else None
        return changed or self.study.params(number)

    def run(self) -> bool:
        """Run what is left. Returns whether the sweep is complete (False: it was stopped)."""
        if self._left() and (spent := self.budget.over()):
            self.stop.request(spent)
        elif self._left():
            with (
                self._ray(),
                stop_signals(lambda name: self.stop.request(f"{name} (again: stop at once)")),
                LiveTable(self.console) as table,
            ):
                Address.of(self.config, self.root).open_here()
                self._fit(table)
            self.budget.save()
            self.sharing.share()
            self.study.flush()
        return not self._left()

    def _left(self) -> int:
        return max(0, self.study.wanted() - len(self.study.trials(*ENDED)))

    def _fit(self, table: LiveTable) -> None:
        scheduler = make_scheduler(self.config, self.records())
        kind = PopulationSearch if self.config.tune.scheduler == "pbt" else StudySearch
        avoid = check_nodes(self.config, self.root, self._say)
        demand = Demand(self.config, cluster_address() is not None, avoid)
        search = kind(
            self.study,
            lambda number: self.record(self.study.trial(number)),
            self.sharing,
            self.sweep,
            demand,
            self.stop,
            scheduler.stopped if isinstance(scheduler, SweepASHA) else (),
            avoid,
        )
        # Under Ray Train the trial only waits for its worker, which holds the cores.
        waiting = {"memory": WAITING_BYTES}
        bundle = waiting if self.config.trainer.workers else resources(self.config)
        with tempfile.TemporaryDirectory(prefix="booster_ray-") as scratch:
            tuner = tune.Tuner(
                self.trainable,
                param_space={
                    "storage": Address.of(self.config, self.root).storage,
                    "name": self.config.name,
                    "typed_in": os.getcwd(),
                    "claims": bundle,
                },
                tune_config=tune.TuneConfig(
                    search_alg=search,
                    scheduler=scheduler,
                    num_samples=NEVER,  # the searcher says when it is enough
                    reuse_actors=True,  # the next trial finds all compiled
                ),
                # No retries of Tune's: the searcher suggests a trial again.
                run_config=tune.RunConfig(
                    name="tune", storage_path=scratch, callbacks=[_View(self, table)], verbose=0
                ),
            )
            try:
                tuner.fit()
            except Exception as error:
                if driver := _cause(error, LeaseLost):
                    raise driver from None
                lost = _cause(error, StorageLost)
                if lost is None:
                    raise
                self.console.print(str(lost), markup=False, soft_wrap=True)

    @contextmanager
    def _ray(self) -> Iterator[None]:
        """A cluster of this process's own, or the one that RAY_ADDRESS names."""
        os.environ |= ENVIRONMENT
        # To Tune every attempt that is made again is a trial that did not complete.
        logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
        address = cluster_address()
        if not ray.is_initialized():  # a new sweep is connected before it is told to anyone
            connect(self.config, address)
        try:
            if address:  # its nodes may vanish one by one; their trials hear of it themselves
                yield
            else:
                with Watch(self.config.trainer, lambda: self.stop.request("preempted")):
                    yield
        finally:
            ray.shutdown()


def _cause(error: BaseException | None, kind: type[T]) -> T | None:
    """The cause of Tune's error, where it is of that kind."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


class _View(tune.Callback):
    """Keeps the live table and the budget."""

    def __init__(self, runner: SweepRunner, table: LiveTable) -> None:
        self._runner, self._table = runner, table
        self._records = {record.number: record for record in runner.records()}
        self._running: set[int] = set()
        self._drawn = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which is not used here

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        keep_listening()  # Tune has a handler of SIGUSR1, which would end the trials

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        budget, stop = self._runner.budget, self._runner.stop
        budget.count(len(self._running))
        if spent := budget.over():
            stop.request(spent)
        if lease := self._runner.lease:
            lease.check_known()
        stop.heard()
        if stop.renew():
            patiently(lambda: self._runner.sharing.stop(wanted=True))
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._drawn = time.monotonic()
            self._table.update(list(self._records.values()))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.add(trial.config["number"])
        self._refresh(trial, "RUNNING")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # Of a trial that runs only its reports change: neither the study nor other files are read.
        number, repeat = trial.config["number"], trial.config.get("repeat", 0)
        before = self._records[number]
        self._records[number] = patiently(lambda: self._runner.reported(before, repeat))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial.config["number"])
        self._refresh(trial, "PAUSED")  # unless it has ended: members wait for their generation

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial.config["number"])
        record = self._refresh(trial, "PENDING")
        repeat = trial.config.get("repeat", 0)
        said = (record.error or "").removeprefix(f"seed {repeat}: ")
        died = record.status == "ERROR" and said.startswith(DIED)
        # The run cannot say itself why it was killed; Ray may know more.
        if died and (why := reason(_error_of(trial))):
            path = trial_directory(self._runner.root, record.number, repeat) / ERROR
            patiently(lambda: replace_text(path, f"{said}; {why}"))
            self._refresh(trial, "ERROR")

    def _refresh(self, trial: Any, status: Status) -> TrialRecord:
        number = trial.config["number"]
        record = patiently(lambda: self._read(number, status))
        before = self._records.get(number)
        self._records[number] = record
        if before is None or before.status != record.status:
            statuses = {r.trial_id: r.status for r in self._records.values()}
            patiently(lambda: write_statuses(self._runner.root, statuses))
        if status != "RUNNING":
            self._table.update(list(self._records.values()))
        return record

    def _read(self, number: int, status: Status) -> TrialRecord:
        return self._runner.record(self._runner.study.trial(number), status)


def _error_of(trial: Any) -> str:
    """What Ray Tune says of a trial's error; empty where it has kept nothing."""
    try:  # not `get_error`, which looks where it is copied later
        return Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return ""


def facts(
    config: Config, records: list[TrialRecord], digest: str, budget: Budget
) -> dict[str, str]:
    """What a report's header says of the sweep."""
    import importlib.metadata as metadata

    wall = sum(run.history.latest("wall_seconds") or 0.0 for r in records for run in r.runs)
    packages = ("ray", "jax", "mujoco", "sai-mujoco", "optuna")
    return {
        "config": digest,
        "seed": str(config.seed),
        "trials": str(len(records)),
        **({"seeds": f"{config.tune.seeds} of each trial"} if config.tune.seeds > 1 else {}),
        "env steps": f"{sum(r.env_steps for r in records):,}",
        "trial time": f"{wall / 60:.1f} min summed over trials",
        "sweep time": f"{budget.hours:.3g} h, {budget.trial_hours:.3g} trial-hours",
        **({"cost": f"{budget.cost:.4g}"} if budget.cost is not None else {}),
        "machine": f"{os.uname().nodename}, {available_cpus()} CPUs",
        # On a cluster our own code may come with the job, without being installed.
        "versions": ", ".join(
            [f"booster_ray {__version__}", *(f"{p} {metadata.version(p)}" for p in packages)]
        ),
    }
