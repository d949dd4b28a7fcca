"""Folders of runs as training leaves them, and what trackers have made of them, read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from booster_ray.config import Sweep
from booster_ray.store.files import CONFIG, PROGRESS, SWEEP, keep_run_id
from booster_ray.track.tracked_runs import Row, State, TrackedRun, write_statuses
from booster_ray.track.wandb_sink import history, records

SPACE = {"search": "uniform", "low": 0.5, "high": 2.0}
EVERY = 100
"""Env steps between reports."""


def report(steps: int, **more: float) -> dict[str, float]:
    return {"env_steps": steps, "wall_seconds": steps / 10, "critic_loss": 1.0 / steps, **more}


def reports(count: int) -> list[dict[str, float]]:
    """Every third with a score."""
    return [
        report(EVERY * n, **({"score": n % 7 - 3.0} if n % 3 == 0 else {}))
        for n in range(1, count + 1)
    ]


def make_run(root: Path, count: int, env_steps: int | None = None, **settings: Any) -> Path:
    """A run by itself that has made so many reports, of ``env_steps`` env steps in all."""
    root.mkdir(parents=True)
    training = {"env_steps": env_steps or EVERY * count}
    raw = {"name": root.name, "storage": str(root.parent), "training": training, **settings}
    (root / CONFIG).write_text(Sweep.from_raw(raw, "test").base().to_yaml())
    keep_run_id(root)
    add(root, reports(count))
    return root


def make_sweep(root: Path, trials: int, count: int, **settings: Any) -> Path:
    """A sweep over one weight, whose trials have made so many reports and are done."""
    root.mkdir(parents=True)
    raw = {"name": root.name, "storage": str(root.parent), "rewards": {"height": SPACE},
           "training": {"env_steps": EVERY * count}, **settings}  # fmt: skip
    sweep = Sweep.from_raw(raw, "test")
    (root / SWEEP).write_text(sweep.complete().to_yaml())
    keep_run_id(root)
    for number in range(trials):
        trial = root / "trials" / f"{number:04d}"
        trial.mkdir(parents=True)
        config = sweep.resolve({"rewards.height": 0.5 + 0.25 * number})
        (trial / CONFIG).write_text(config.to_yaml())
        keep_run_id(trial)
        add(trial, reports(count))
    write_statuses(root, {f"{number:04d}": "TERMINATED" for number in range(trials)})
    return root


def add(directory: Path, rows: Iterable[dict[str, float]]) -> None:
    """Report more, as a run does."""
    with (directory / PROGRESS).open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def rewind(directory: Path, count: int) -> None:
    """Keep the first reports alone, as a run does that goes on from a checkpoint."""
    lines = (directory / PROGRESS).read_text().splitlines(keepends=True)
    temp = directory / "temp"
    temp.write_text("".join(lines[:count]))
    temp.replace(directory / PROGRESS)


class Kept:
    """A listener that keeps in memory what it is told, and may be told to fail."""

    where = "memory"

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.states: dict[str, list[State]] = {}
        self.closed: list[str] = []

    def open(self, subject: TrackedRun, newest: int) -> int:
        held = self.rows.setdefault(subject.name, [])
        return held[-1].env_steps if held else -1

    def send(self, subject: TrackedRun, rows: Sequence[Row]) -> None:
        self.rows[subject.name] += rows

    def update(self, subject: TrackedRun, state: State) -> None:
        self.states.setdefault(subject.name, []).append(state)

    def close(self, subject: TrackedRun, state: State) -> None:
        self.closed.append(subject.name)

    def farewell(self) -> str:
        return ""

    def steps(self, name: str) -> list[int]:
        return [row.env_steps for row in self.rows.get(name, [])]


# -- W&B's files ------------------------------------------------------------------------------


def wandb_history(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of each run, by its id; of all its files, in the order of their making."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted((root / "wandb").glob("offline-run-*")):
        (file,) = folder.glob("run-*.wandb")
        found.setdefault(file.stem.removeprefix("run-"), []).extend(history(file))
    return found


def wandb_run(root: Path, identity: str) -> Any:
    """What the only file of a run says of it."""
    (file,) = (root / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb")
    return next(r.run for r in records(file) if r.HasField("run"))
