"""The files of a run and of a sweep by name, and what everyone reads of them."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from booster_ray.store import tail
from booster_ray.store.durable import names_in, replace_text

RUN_LOCK = ".lock"
"""In a run's folder; held by the process that writes the run."""
TRIALS = "trials"
"""In a sweep's folder, where its trials' folders are."""
SEED = re.compile(r"seed_\d+")
"""In a trial's folder: that of a further run, which differs from the trial's in the seed alone."""
SWEEP = "sweep.yaml"
"""What marks a sweep's folder: its checked config."""
CONFIG = "config.yaml"
"""What marks a run's folder: its resolved config."""
PROGRESS = "progress.jsonl"
"""One line a report."""
SYSTEM = "system.jsonl"
"""Readings of the machine beside a run, and alerts: ``env_steps`` and what was read, a line."""
STOP_FILE = "stop-requested"
"""While this file stands in a run's or sweep's folder, runs save a checkpoint and end early."""
SPEC = "spec.json"
"""In a trial's folder, made once: with what it is run. See :mod:`booster_ray.tune.ledger`."""
VERDICT = "verdict.json"
"""In a trial's folder, made once: how it has ended."""
POPULATION = "population.json"
"""In a sweep's folder: the generations of population based training."""
NOTICE_FILE = "preemption-notice"
"""Appears in a run's folder when something else has heard a notice; any scheduler may write it."""
STUDY = "study.db"
"""A sweep's Optuna study for dashboards, where it is not in a database that all machines reach."""
SPENT = "spent.json"
"""Hours that a sweep has taken, over all its drivers."""
ROBUSTNESS = "robustness.json"
"""A finished run's score under randomization, the second objective."""

RUN_ID = "run_id"
"""In the folder of a run or sweep, one line: its id. Checkpoints carry it too."""
ATTEMPTS = "attempts.jsonl"
"""How the attempts at a run have ended, a line each; two processes write to it, see
:mod:`booster_ray.store.attempts`."""
ATTEMPTS_ARRAY = "attempts.json"
"""The same of an earlier release."""
STALL = "stall.txt"
"""The stacks of all threads of the last attempt that made no progress."""
ERROR = "error.txt"
"""One line, when the last attempt failed."""
FAILURE = "error.json"
"""The same line as ``text``, and ``how`` the attempt ended."""
TRACEBACK = "traceback.txt"
FAILURE_FILES = (ERROR, FAILURE, TRACEBACK)
NOTES = "stderr-*.json"
"""In a run's folder: ``host``, ``node`` (Ray's id), ``path`` of a process's standard error and
where that ended then (``from``)."""
ACTOR = "actor.json"
"""What marks the folder of a converted actor."""
GATES = "gates.json"
"""Beside a trial's checkpoints: what the gates said of one of them."""

RECORDS = (CONFIG, PROGRESS, ERROR, FAILURE, TRACEBACK, RUN_ID, SYSTEM)
"""What of a run is copied to remote storage beside the checkpoints; of these the run is the only
writer."""


def trial_directory(root: Path, number: int, repeat: int = 0) -> Path:
    """Where trial ``number`` of the sweep in ``root`` keeps its work.

    Of several runs that differ in the seed alone, the first (``repeat`` 0) has the trial's folder.
    """
    trial = root / TRIALS / f"{number:04d}"
    return trial / f"seed_{repeat}" if repeat else trial


def further_runs(trial: Path) -> list[Path]:
    """The folders of a trial's runs beside the first, as far as they are there. Raises OSError."""
    return [trial / name for name in sorted(names_in(trial)) if SEED.fullmatch(name)]


def sweep_root(run: Path) -> Path | None:
    """The folder of the sweep that a run is of, by the run's folder; None: it is of none."""
    folder = run.absolute()
    trial = folder.parent if SEED.fullmatch(folder.name) else folder
    return trial.parents[1] if trial.parent.name == TRIALS else None


def trial_name(run: Path) -> str:
    """``0007``, or ``0007/seed_1`` of a further run; empty: the run is of no sweep."""
    root = sweep_root(run)
    return run.absolute().relative_to(root / TRIALS).as_posix() if root else ""


def read_progress(directory: Path) -> list[dict[str, float]]:
    """The reports recorded in a run directory; a line cut short by a kill is left out.

    Who looks again and again takes a :class:`booster_ray.store.progress.ProgressReader`.
    """
    return tail.objects(directory / PROGRESS)


def last_report(directory: Path) -> dict[str, float] | None:
    """The newest report recorded in a run directory, None before the first; cheap."""
    return tail.last_object(directory / PROGRESS)


def best_checkpoint(directory: Path) -> Path | None:
    """The run's ``best_N`` directory, or None before the first evaluation.

    Raises:
        OSError: the directory cannot be listed.
    """
    found = [name for name in names_in(directory) if name.startswith("best_")]
    return directory / max(found) if found else None


def run_id(directory: Path) -> str | None:
    """The id that stands in a folder; None before it is made."""
    try:
        return (directory / RUN_ID).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def keep_run_id(directory: Path, of_checkpoint: str | None = None) -> str:
    """The folder's id, made where there is none.

    Args:
        directory: of the run or sweep.
        of_checkpoint: the id in the checkpoint that the run goes on from: taken where the folder
            was lost. A folder's own comes first, for a checkpoint may be another run's copy.

    Raises:
        OSError: it cannot be written.
    """
    found = run_id(directory)
    if found is None:
        found = of_checkpoint or secrets.token_hex(8)
        replace_text(directory / RUN_ID, found + "\n")
    return found
