"""A thousand trials of two hundred reports, a hundred at a time, through the driver's own code.

Of the stack only Ray's processes are left out, for which two cores are too few: :class:`Replay`
stands in the place of ``tune.Tuner`` and calls the searcher, the scheduler and the callbacks in the
order of Ray Tune's controller, for trials whose folders it writes as training does. The driver is
connected to a Ray of its own, so that its memory is a driver's.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

from ray.tune.search import Searcher
from rich.console import Console

from booster_ray.config import Sweep, load
from booster_ray.soccer.game import TASKS
from booster_ray.store.failure import record_failure
from booster_ray.store.files import CONFIG, PROGRESS, RUN_ID, SWEEP, keep_run_id, trial_directory
from booster_ray.store.folder import lock

PRESETS = Path(__file__).parents[2] / "tune_configs"
STEPS, EVALUATED = 1_000_000, 5
"""Env steps between reports; every fifth has an evaluation, as with the preset `aggressive`."""
TERMS = ("alive", "approach", "ball_speed", "fall", "gait", "goal", "height", "pose", "smoothness")
LEARNER = (
    "actor_grad_norm", "actor_loss", "alpha", "critic_grad_norm", "critic_loss", "entropy",
    "log_std", "q", "q_max", "entropy_collapsed", "action_change", "action_saturation", "idle",
    "saturated",
)  # fmt: skip
ALWAYS = ("episode_return", "episode_seconds", *LEARNER, *(f"reward/{term}" for term in TERMS))
KINDS = ("score", "survival", "fall_rate", *(f"evaluation/reward/{term}" for term in TERMS))
SCORED = ("score", *(f"{kind}/{task}" for kind in KINDS for task in TASKS))
FAILING = 50
"""One trial in so many fails, at every attempt."""


def scale_sweep(storage: Path, trials: int, reports: int, running: int, sampler: str) -> Sweep:
    """The sweep: the preset with the widest search."""
    overrides = [
        "name=scale", f"storage={storage}", f"tune.trials={trials}", f"tune.sampler={sampler}",
        f"tune.max_concurrent={running}", f"training.env_steps={reports * STEPS}",
        f"training.report_every={STEPS}", "tune.gate_trials=0", "models.registry=none",
    ]  # fmt: skip
    return load(PRESETS / "aggressive.yaml", overrides)


def report(number: int, index: int) -> dict[str, float]:
    """What trial ``number`` reports, for the ``index``-th time from 1 on."""
    rng = random.Random(f"{number}/{index}")
    metrics: dict[str, float] = {"env_steps": index * STEPS}
    metrics |= {key: rng.gauss(0, 1) for key in ALWAYS}
    if index % EVALUATED == 0:
        metrics |= {key: rng.gauss(math.log(index), 1 + number % 7) for key in SCORED}
    return {**metrics, "env_steps_per_second": 9e4 * rng.random(), "wall_seconds": 11.1 * index}


class Replay:
    """As much of ``tune.Tuner`` as a sweep uses; times what the driver does.

    Args:
        sweep: what it runs.
        reports: of each trial.
        loud: trials that report one by one; of those before, folders are written at once.
    """

    def __init__(self, sweep: Sweep, reports: int, loud: range) -> None:
        self._sweep, self._reports, self._loud = sweep, reports, loud
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __call__(
        self, trainable: Any, *, param_space: Any, tune_config: Any, run_config: Any
    ) -> Replay:
        """What is constructed."""
        self._space, self._search = param_space, tune_config.search_alg
        self._root = Path(param_space["storage"]) / param_space["name"]
        self._scheduler, (self._view,) = tune_config.scheduler, run_config.callbacks
        self._made: Counter[int] = Counter()
        self._running: list[Any] = []
        return self

    def fit(self) -> None:
        """Trials take turns to report, as many at once as the searcher starts."""
        finished = False
        while not finished or self._running:
            while not finished and (found := self._next()) is not None:
                if finished := found == Searcher.FINISHED:
                    break
                self._start(found)
            for trial in list(self._running):
                self._turn(trial)

    def _timed(self, what: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = call()
        self.seconds[what] += time.perf_counter() - began
        self.calls[what] += 1
        return found

    def _next(self) -> Any:
        identity = f"attempt{self.calls['suggest']}"
        began = time.perf_counter()
        found = self._timed("suggest", lambda: self._search.suggest(identity))
        if isinstance(found, dict):
            self.seconds["ask"] += time.perf_counter() - began
            self.calls["ask"] += 1
            return SimpleNamespace(
                trial_id=identity, config={**self._space, **found}, last_result={}
            )
        return found

    def _start(self, trial: Any) -> None:
        directory = trial_directory(self._root, trial.config["number"])
        if not (directory / RUN_ID).exists():
            directory.mkdir(parents=True, exist_ok=True)
            config = self._sweep.resolve(trial.config["params"])
            (directory / CONFIG).write_text(config.to_yaml())
            keep_run_id(directory)
        self._running.append(trial)
        self._timed("start", partial(self._scheduler.on_trial_add, None, trial))
        self._timed("start", partial(self._view.on_trial_start, 0, [], trial))

    def _turn(self, trial: Any) -> None:
        number = trial.config["number"]
        directory = trial_directory(self._root, number)
        failing = number % FAILING == FAILING - 1
        left = range(self._made[number] + 1, (self._reports // 2 if failing else self._reports) + 1)
        if not left:  # the attempts after the first
            return self._fail(trial, directory)
        made = [report(number, index) for index in (left[:1] if number in self._loud else left)]
        with (directory / PROGRESS).open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(metrics) + "\n" for metrics in made)
        self._made[number] += len(made)
        done = len(made) == len(left)
        trial.last_result = {**made[-1], "finished": done and not failing}
        self._timed("report", lambda: self._report(trial))
        if done and failing:
            self._fail(trial, directory)
        elif done:
            self._end(trial, error=False)

    def _fail(self, trial: Any, directory: Path) -> None:
        record_failure(directory, FloatingPointError(f"critic_loss of {directory.name}"))
        self._end(trial, error=True)

    def _report(self, trial: Any) -> None:
        """One step of the controller; trials go on whatever the scheduler decides."""
        self._view.on_step_begin(0, [])
        self._search.on_trial_result(trial.trial_id, trial.last_result)
        self._scheduler.on_trial_result(None, trial, trial.last_result)
        self._view.on_trial_result(0, [], trial, trial.last_result)
        self._view.on_step_end(0, [])

    def _end(self, trial: Any, error: bool) -> None:
        self._running.remove(trial)
        result = None if error else trial.last_result
        told = partial(self._search.on_trial_complete, trial.trial_id, result, error)
        if error:
            self._timed("end", partial(self._scheduler.on_trial_remove, None, trial))
            self._timed("end", told)
            self._timed("end", partial(self._view.on_trial_error, 0, [], trial))
        else:
            self._timed("end", partial(self._scheduler.on_trial_complete, None, trial, result))
            self._timed("end", told)
            self._timed("end", partial(self._view.on_trial_complete, 0, [], trial))


def drive(storage: Path, trials: int, begun: int, reports: int, running: int) -> dict[str, float]:
    """A driver of trials ``begun`` to ``trials`` (with 0 begun, of a new sweep) and its report.

    With ``begun == trials`` folders are written at once, for another driver to go on from.
    """
    from booster_ray.tune import sweep as driver

    last = begun < trials
    sweep = scale_sweep(storage, trials, reports, running, "tpe" if last else "random")
    root = storage / "scale"
    root.mkdir(parents=True, exist_ok=True)
    (root / SWEEP).write_text(sweep.complete().to_yaml())
    keep_run_id(root)
    replay = Replay(sweep, reports, range(begun, trials))
    driver.tune.Tuner = replay  # type: ignore[assignment, misc]
    with lock(root):
        began = time.perf_counter()
        runner = driver.SweepRunner(sweep, root, Console(file=io.StringIO(), width=120))
        if not runner.run():
            raise RuntimeError("the sweep did not complete")
        whole = time.perf_counter() - began
        if not last:
            return {"prepared_seconds": whole}
        parts = {name: replay.seconds[name] for name in ("report", "start", "end")}
        told = replay.calls["report"]
        found = {
            "driver_ms_per_report": 1e3 * sum(parts.values()) / told,
            **{f"{name}_ms_per_report": 1e3 * spent / told for name, spent in parts.items()},
            "ask_ms": 1e3 * replay.seconds["ask"] / replay.calls["ask"],
            "reports": told,
            "driven_seconds": whole,
            "driver_mb_before_report": peak_mb(),
        }
        return found | closing(runner, root)


def closing(runner: Any, root: Path) -> dict[str, float]:
    """The page, then all that a sweep's end writes; no policy is played, for there is none."""
    from booster_ray.tune.report import importances, write_report
    from booster_ray.tune.sweep import facts

    began = time.perf_counter()
    records = runner.records()
    told = facts(runner.config, records, "0" * 12, runner.budget)
    page = root / "report.html"
    write_report(page, "scale", records, importances(runner.study.scored()), None, told)
    found = {
        "report_mb": page.stat().st_size / 1e6,
        "report_seconds": time.perf_counter() - began,
        "driver_mb": peak_mb(),
    }
    # Loads what would play the best policy: JAX, MuJoCo.
    from booster_ray.tune.finish import finish

    began = time.perf_counter()
    finish(runner, runner.console)
    return found | {"finish_seconds": time.perf_counter() - began, "finish_mb": peak_mb()}


def track(storage: Path) -> dict[str, float]:
    """What the process of trackers takes to find all trials, and to read them for three sinks."""
    from booster_ray.track.tracked_runs import TrackedFolder
    from booster_ray.track.uploader import Uploader

    began = time.perf_counter()
    TrackedFolder(storage / "scale").subjects()
    scan = time.perf_counter() - began
    began = time.perf_counter()
    board = TrackedFolder(storage / "scale")
    uploaders = [Uploader(str(n), Silent, board, print) for n in range(3)]
    for uploader in uploaders:
        uploader.start()
        uploader.close()
    for uploader in uploaders:
        uploader.join()
    return {
        "tracker_scan_seconds": scan,
        "tracker_read_seconds": time.perf_counter() - began,
        "tracker_mb": peak_mb(),
    }


class Silent:
    """A tracker that takes all and keeps nothing."""

    where = "nowhere"

    def open(self, subject: Any, newest: int) -> int:
        """It holds nothing."""
        return -1

    def send(self, subject: Any, rows: Any) -> None:
        """Taken."""

    def update(self, subject: Any, state: Any) -> None:
        """Taken."""

    def close(self, subject: Any, state: Any) -> None:
        """Nothing is open."""

    def farewell(self) -> str:
        """Nothing to say."""
        return ""


def peak_mb() -> float:
    """The largest resident size of this process so far, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
