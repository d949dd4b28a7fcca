"""The best trials of a sweep go through the gates, and the best of them becomes a package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from booster_ray.config import Config
from booster_ray.evaluate.command import bar
from booster_ray.evaluate.export import PACKAGE, export_best
from booster_ray.evaluate.gates.run import gate, print_stored
from booster_ray.store.files import GATES, trial_directory
from booster_ray.store.folder import publish
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.train.ray_train import available_cpus
from booster_ray.tune.records import TrialRecord, rank


def gate_best(
    config: Config,
    root: Path,
    records: Iterable[TrialRecord],
    sharing: SweepMirror,
    console: Console,
) -> None:
    """Gates 2 and 3 for the best ``tune.gate_trials`` trials, and ``package/`` of the very best.

    Verdicts are told on ``console`` and kept as ``gates.json`` beside the checkpoints. What cannot
    be done is said in a line, and the sweep's own results stand.
    """
    scored = [record for record in rank(records) if record.checkpoint]
    for place, record in enumerate(scored[: config.tune.gate_trials]):
        directory = trial_directory(root, record.number, record.best_run)
        sharing.fetch_run(directory)
        title = f"gates of trial {record.label}"
        console.print(f"{title.capitalize()} …")
        try:
            with bar(console, title) as progress:
                told = gate(
                    directory,
                    episodes=config.tune.gate_episodes,
                    threads=available_cpus(),
                    progress=progress,
                )
            print_stored(told, console)
            publish(config, directory / GATES)
            if place == 0:
                package = export_best(directory, root / PACKAGE)
                console.print(f"Submission package: {package}", soft_wrap=True)
        except (ValueError, OSError) as error:  # CheckpointError and ConfigError are ValueErrors
            line = str(error).splitlines()[0]
            console.print(f"Not done: {line}", markup=False, soft_wrap=True)
