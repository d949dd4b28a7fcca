"""Two training loops side by side, through the whole stack or bare, timed from outside."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import optuna

from booster_ray.store.database import sqlite_url

ROOT = Path(__file__).parents[2]
TRIALS = 2
SETTLED = 0.2
"""Share of the budget that a loop has behind it before it is timed."""
BARE = """
import os, sys
from pathlib import Path
from booster_ray.config import load
from booster_ray.runtime.environment import process_environment
config = load(sys.argv[1]).base()
os.environ.update(process_environment(config, config.trainer.cpus))
from booster_ray.train.run import Run
for report in Run(config, Path(sys.argv[2])):
    pass
"""
"""The loop that a trial runs, its records and checkpoints included, without Ray."""


@dataclass
class Seen:
    """When the reports of one loop appeared: (Unix time, env steps)."""

    reports: list[tuple[float, float]] = field(default_factory=list)
    began: float = 0.0
    """Unix time of its first env step, which is the evaluation's."""


def settings(storage: Path, name: str, env_steps: int) -> list[str]:
    """Command line of a sweep of two equal one-core trials at the default sizes."""
    return [
        "default", f"storage={storage}", f"name={name}", f"tune.trials={TRIALS}",
        f"tune.max_concurrent={TRIALS}", "tune.scheduler=none", "tune.sampler=random",
        "tune.gate_trials=0", "models.registry=none",
        # Searched, so that it is a sweep; both ends train alike.
        "rewards.height={search: uniform, low: 0.99, high: 1.01}",
        f"training.env_steps={env_steps}", "training.report_every=4000",
        f"evaluation.every={env_steps}", "evaluation.episodes_per_task=1",
    ]  # fmt: skip


def through_the_stack(storage: Path, name: str, env_steps: int) -> tuple[float, float]:
    """A sweep of two trials; (summed env steps/s, median s from suggestion to first env step).

    A run's first report follows on an evaluation; it began to step that much earlier.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "booster_ray.tune", *settings(storage, name, env_steps)],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    sweep = storage / name
    seen = watch([sweep / "trials" / f"{n:04d}" for n in range(TRIALS)], [process])
    study = optuna.load_study(study_name=name, storage=sqlite_url(sweep / "study.db"))
    asked = [trial.datetime_start or datetime.now() for trial in study.get_trials()]
    starts = [one.began - when.timestamp() for one, when in zip(seen, asked, strict=True)]
    return summed_rate(seen, env_steps), statistics.median(starts)


def bare(storage: Path, name: str, env_steps: int) -> float:
    """The same two loops, each in a process of its own; summed env steps/s."""
    from booster_ray.config import load

    storage.mkdir(parents=True, exist_ok=True)
    directories = [storage / name / str(n) for n in range(TRIALS)]
    sweep = load(ROOT / "tune_configs" / "default.yaml", settings(storage, name, env_steps)[1:])
    config = storage / f"{name}.yaml"
    config.write_text(sweep.base().to_yaml())
    processes = [
        subprocess.Popen([sys.executable, "-c", BARE, str(config), str(path)], cwd=ROOT)
        for path in directories
    ]
    return summed_rate(watch(directories, processes), env_steps)


def watch(directories: list[Path], processes: list[subprocess.Popen[bytes]]) -> list[Seen]:
    """Note when each new report appears, until all processes have ended.

    Raises:
        RuntimeError: one of them failed.
    """
    seen = [Seen() for _ in directories]
    while any(process.poll() is None for process in processes):
        for one, directory in zip(seen, directories, strict=True):
            _look(one, directory / "progress.jsonl")
        time.sleep(0.05)
    if codes := [process.returncode for process in processes if process.returncode]:
        raise RuntimeError(f"a loop ended with exit code {codes[0]}")
    return seen


def _look(one: Seen, path: Path) -> None:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines[len(one.reports) :]:
        if line.endswith("}"):
            report, now = json.loads(line), time.time()
            one.began = one.began or now - report["evaluation_seconds"]
            one.reports.append((now, report["env_steps"]))


def summed_rate(seen: list[Seen], env_steps: int) -> float:
    """Env steps/s of all loops while all of them are past their start and none has ended."""
    begin = max(_reached(one, SETTLED * env_steps) for one in seen)
    end = min(one.reports[-2][0] for one in seen)  # the last evaluation is not collected steps
    if end <= begin:
        raise RuntimeError("the loops did not run side by side; take more env steps")
    return sum(_steps_at(one, end) - _steps_at(one, begin) for one in seen) / (end - begin)


def _reached(one: Seen, env_steps: float) -> float:
    return next(when for when, steps in one.reports if steps >= env_steps)


def _steps_at(one: Seen, when: float) -> float:
    """Env steps at a time, between two reports by proportion."""
    for (t0, s0), (t1, s1) in zip(one.reports, one.reports[1:], strict=False):
        if t0 <= when <= t1:
            return s0 + (s1 - s0) * (when - t0) / max(t1 - t0, 1e-9)
    return one.reports[-1][1]


def warm_up(storage: Path) -> None:
    """Fill the compilation cache."""
    through_the_stack(storage, "warm", 10_000)


os.environ.setdefault("JAX_PLATFORMS", "cpu")
