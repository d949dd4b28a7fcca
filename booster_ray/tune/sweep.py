"""The main job: start Ray, let the study suggest, run trials, and close with a leaderboard."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.trial import TrialState
from ray import tune
from rich.console import Console

from booster_ray import __version__
from booster_ray.config import Config, Sweep
from booster_ray.train.ray_train import available_cpus, connect
from booster_ray.train.run import (
    ERROR,
    STOP_FILE,
    best_checkpoint,
    read_progress,
    replace_text,
)
from booster_ray.tune.live import LiveTable
from booster_ray.tune.records import Status, TrialRecord
from booster_ray.tune.schedule import make_scheduler
from booster_ray.tune.search import StudySearch, decode, open_study
from booster_ray.tune.trial import run_trial, trial_directory

REDRAW_SECONDS = 2.0
WAITING_BYTES = 256 * 2**20
"""Memory that a trial's own process claims when a Ray Train worker does its work."""


class SweepRunner:
    """One driver's share of a sweep; what it does not finish, the next driver does.

    Args:
        sweep: the checked config.
        root: the sweep's folder.
        console: where progress is shown.
    """

    def __init__(self, sweep: Sweep, root: Path, console: Console) -> None:
        self.sweep, self.root, self.config = sweep, root.resolve(), sweep.base()
        self.console = console
        self._stop_file = self.root / STOP_FILE
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = open_study(f"sqlite:///{self.root / 'study.db'}", self.config)

    def records(self) -> list[TrialRecord]:
        """Every trial of the study, from its run directory."""
        return [self._record(trial) for trial in self.study.get_trials(deepcopy=False)]

    def _record(self, trial: optuna.trial.FrozenTrial, status: Status | None = None) -> TrialRecord:
        directory = trial_directory(self.root, trial.number)
        history = read_progress(directory)
        budget = self.config.training.env_steps
        done = bool(history) and history[-1]["env_steps"] >= budget
        ended: dict[TrialState, Status] = {
            TrialState.COMPLETE: "TERMINATED" if done else "STOPPED",
            TrialState.FAIL: "ERROR",
        }
        error = directory / ERROR
        best = best_checkpoint(directory)
        return TrialRecord(
            trial_id=f"{trial.number:04d}",
            number=trial.number,
            status=ended.get(trial.state, status or "PENDING"),
            params=decode(self.sweep.space, trial.params),
            history=history,
            target_env_steps=budget,
            checkpoint=str(best) if best else None,
            error=error.read_text(encoding="utf-8") if error.exists() else None,
            started=directory.exists(),
        )

    def best_score(self, number: int) -> float | None:
        """Best official mean score of a trial, from its run directory."""
        return self._record(self.study.get_trials(deepcopy=False)[number]).best_score

    def run(self) -> bool:
        """Run what is left. Returns whether the sweep is complete (False: it was stopped)."""
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        left = self.config.tune.trials - sum(state.is_finished() for state in states)
        if left <= 0:
            return True
        self._stop_file.unlink(missing_ok=True)
        with self._ray(), self._signals(), LiveTable(self.console) as table:
            self._fit(left, table)
        return not self._stop_file.exists()

    def _fit(self, left: int, table: LiveTable) -> None:
        finished = [r for r in self.records() if r.status in ("TERMINATED", "STOPPED")]
        search = StudySearch(
            self.study, self.sweep, self.config.tune.trials, self.best_score,
            self._stop_file.exists,
        )  # fmt: skip
        trainer = self.config.trainer
        # Under Ray Train the trial only waits for its worker, which holds the cores.
        bundle = {"memory": WAITING_BYTES} if trainer.workers else {"CPU": trainer.cpus}
        tuner = tune.Tuner(
            tune.with_resources(run_trial, tune.PlacementGroupFactory([bundle])),
            param_space={"root": str(self.root)},
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=make_scheduler(self.config, finished),
                num_samples=left,
                max_concurrent_trials=self._concurrency(),
            ),
            run_config=tune.RunConfig(
                name=f"driver-{time.time_ns()}",
                storage_path=str(self.root / "ray"),
                failure_config=tune.FailureConfig(max_failures=self.config.tune.max_failures),
                callbacks=[_View(self, table)],
                verbose=0,
            ),
        )
        tuner.fit()

    def _concurrency(self) -> int:
        fitting = int(ray.cluster_resources().get("CPU", 1)) // self.config.trainer.cpus
        wanted = self.config.tune.max_concurrent or fitting
        return max(1, min(wanted, max(1, fitting)))

    @contextmanager
    def _ray(self) -> Iterator[None]:
        """A cluster of this process's own, or the one that RAY_ADDRESS names."""
        os.environ |= {
            "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours lets trials save first
            "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # only evaluations report a score
            "RAY_AIR_NEW_OUTPUT": "0",
        }
        connect(self.config, os.environ.get("RAY_ADDRESS"))
        try:
            yield
        finally:
            ray.shutdown()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """First Ctrl-C or SIGTERM: trials save and end. Second: stop at once."""

        def stop(signum: int, _frame: Any) -> None:
            if self._stop_file.exists():
                raise KeyboardInterrupt
            self._stop_file.touch()
            self.console.print("Stopping: trials save a checkpoint and end. Again: stop at once.")

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


class _View(tune.Callback):
    """Keeps the live table, and each trial's last error beside its work."""

    def __init__(self, runner: SweepRunner, table: LiveTable) -> None:
        self._runner, self._table = runner, table
        self._records = {record.number: record for record in runner.records()}
        self._drawn = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which is not used here

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._drawn = time.monotonic()
            self._table.update(list(self._records.values()))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._refresh(trial, "RUNNING")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._refresh(trial, "RUNNING")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._refresh(trial, "TERMINATED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        directory = trial_directory(self._runner.root, trial.config["number"])
        directory.mkdir(parents=True, exist_ok=True)
        # The run says itself why it failed, unless it was killed; then Ray's last word must do.
        if not (directory / ERROR).exists():
            lines = str(trial.get_error() or "the trial's process died").strip().splitlines()
            replace_text(directory / ERROR, lines[-1])
        self._refresh(trial, "ERROR")

    def _refresh(self, trial: Any, status: Status) -> None:
        number = trial.config["number"]
        frozen = self._runner.study.get_trials(deepcopy=False)[number]
        self._records[number] = self._runner._record(frozen, status)
        if status != "RUNNING":
            self._table.update(list(self._records.values()))


def facts(config: Config, records: list[TrialRecord], digest: str) -> dict[str, str]:
    """What a report's header says of the sweep."""
    import importlib.metadata as metadata

    wall = sum(r.history[-1].get("wall_seconds", 0.0) for r in records if r.history)
    packages = ("ray", "jax", "mujoco", "sai-mujoco", "optuna")
    return {
        "config": digest,
        "seed": str(config.seed),
        "trials": str(len(records)),
        "env steps": f"{sum(r.env_steps for r in records):,}",
        "trial time": f"{wall / 60:.1f} min summed over trials",
        "machine": f"{os.uname().nodename}, {available_cpus()} CPUs",
        # On a cluster our own code may come with the job, without being installed.
        "versions": ", ".join(
            [f"booster_ray {__version__}", *(f"{p} {metadata.version(p)}" for p in packages)]
        ),
    }
