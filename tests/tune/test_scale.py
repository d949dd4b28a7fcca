"""What a report costs the driver of a sweep, however long the sweep and the trial."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import driving
import reading
from rich.console import Console

from booster_ray.config import load
from booster_ray.store.files import PROGRESS, SWEEP, trial_directory
from booster_ray.tune.live import LiveTable
from booster_ray.tune.sweep import SweepRunner, _View


def lines(begin: int, end: int) -> str:
    return "".join(
        json.dumps({"env_steps": 10 * i, "score": -1.0 / i}) + "\n" for i in range(begin, end)
    )


def runner_of(root: Path, trials: int) -> SweepRunner:
    """A driver of a sweep with so many trials under way."""
    root.mkdir(parents=True)
    sweep = load("debug", [f"storage={root.parent}", f"tune.trials={trials}"])
    (root / SWEEP).write_text(sweep.complete().to_yaml())
    runner = SweepRunner(sweep, root, Console(file=io.StringIO()))
    for _ in range(trials):
        runner.study.ask()
    return runner


def test_a_report_reads_neither_the_study_nor_what_was_read_before(tmp_path: Path) -> None:
    runner = runner_of(tmp_path / "debug", 3)
    directory = trial_directory(runner.root, 1)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROGRESS).write_text(lines(1, 5000))
    view = _View(runner, LiveTable(runner.console))
    trial = SimpleNamespace(config={"number": 1})
    view.on_trial_start(0, [], trial)
    del runner.study
    with (directory / PROGRESS).open("a") as stream:
        stream.write(lines(5000, 5001))
    with reading.counted() as found:
        view.on_trial_result(1, [], trial, {})
    record = view._records[1]
    assert (record.status, record.env_steps, record.last_score) == ("RUNNING", 50_000, -1 / 5000)
    assert found[0] < 20_000 < (directory / PROGRESS).stat().st_size


def test_records_are_read_once(tmp_path: Path) -> None:
    runner = runner_of(tmp_path / "debug", 2)
    directory = trial_directory(runner.root, 0)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROGRESS).write_text(lines(1, 5000))
    assert [record.env_steps for record in runner.records()] == [49_990, 0]
    with reading.counted() as found:
        assert [record.best_score for record in runner.records()] == [-1 / 4999, None]
    assert found[0] < 100_000 < (directory / PROGRESS).stat().st_size


def test_a_driver_does_not_hold_what_plays_and_learns() -> None:
    code = """if True:
        import sys
        import optuna, booster_ray.tune.sweep
        from booster_ray.tune.report import importances
        importances(optuna.create_study())
        print({*sys.modules} & {"jax", "mujoco", "torch", "sklearn"})
        import sklearn
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=driving.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
