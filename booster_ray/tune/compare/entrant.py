"""What is compared, and what of it stands on disk: episodes, reports, config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from booster_ray.config import ConfigError, load
from booster_ray.evaluate.output import JSON
from booster_ray.evaluate.play import Episode
from booster_ray.policy import package
from booster_ray.soccer import game
from booster_ray.store.checkpoint import find
from booster_ray.store.files import (
    CONFIG,
    PROGRESS,
    SWEEP,
    TRIALS,
    further_runs,
    trial_directory,
)
from booster_ray.store.progress import History, ProgressReader

BEST = "best/scores.json"
"""In the folder of a sweep that has ended: which trial and seed was its best."""

WHERE = ("name", "storage")
"""Settings that say which run it is, and nothing of what it does."""


@dataclass
class Entrant:
    """One of what is compared."""

    name: str
    """Short, and no other's."""
    target: str
    """As it was typed."""
    kind: str
    """``run``, ``sweep``, ``checkpoint``, ``package``, ``evaluation``, or ``policy``."""
    run: Path | None = None
    """The folder of the run that its policy comes from, where that is known."""
    repeats: tuple[Path, ...] = ()
    """Folders of the runs that differ from it in the seed alone."""
    history: History = field(default_factory=History)
    """The run's reports; empty without a run."""
    config: dict[str, Any] | None = None
    """Every setting, as plain data."""
    episodes: list[Episode] = field(default_factory=list)
    """Those of an evaluation that stands on disk, or that were played."""
    world: str | None = None
    """Where they were played."""
    played: bool = False
    """Whether they were played now."""

    @property
    def plays(self) -> bool:
        """Whether there is a policy that can play."""
        return self.kind != "evaluation"

    @property
    def to_play(self) -> str:
        """What plays: the target; of a sweep that has not ended the best run's best checkpoint."""
        path = Path(self.target).expanduser()
        ended = self.kind != "sweep" or find.find_checkpoint(path) is not None
        return self.target if ended else str(self.run)

    def seeds(self, task: str) -> set[int]:
        """Of the episodes of a task."""
        return {e.seed for e in self.episodes if e.task == task}

    @property
    def repeat_scores(self) -> list[float]:
        """The best score of the run and of each that differs from it in the seed alone."""
        runs = [self.history, *(ProgressReader(path).read() for path in self.repeats)]
        return [run.best_score for run in runs if run.best_score is not None]


def read_entrants(targets: Sequence[str]) -> list[Entrant]:
    """All of them, under names that tell them apart.

    Raises:
        ConfigError: one is given twice, there is nothing of its name, or it cannot be read.
        CheckpointError: a checkpoint is damaged.
    """
    if twice := next((t for t in targets if targets.count(t) > 1), None):
        raise ConfigError("command line", twice, "is given twice, expected different ones")
    names = short([target.removesuffix(f"/{JSON}").rstrip("/") for target in targets])
    return [_read(target, name) for target, name in zip(targets, names, strict=True)]


def short(targets: Sequence[str]) -> list[str]:
    """The last part of each path, or as many parts as no other path ends with."""
    parts = [Path(text).parts if "/" in text else (text,) for text in targets]

    def name(mine: tuple[str, ...]) -> str:
        for length in range(1, len(mine) + 1):
            if sum(other[-length:] == mine[-length:] for other in parts) == 1:
                return "/".join(mine[-length:])
        return "/".join(mine)

    return [name(mine) for mine in parts]


def _read(target: str, name: str) -> Entrant:
    path = Path(target).expanduser()
    if path.is_file() and path.name == JSON:
        path = path.parent
    if not path.is_dir():
        return Entrant(name, target, "policy")  # whoever plays it says what it is
    entrant = _of_folder(path, target, name)
    if (path / JSON).is_file():
        entrant.world, entrant.episodes = read_evaluation(path / JSON)
    return entrant


def _of_folder(path: Path, target: str, name: str) -> Entrant:
    if (path / package.MANIFEST).is_file():
        about = _json(path / package.MANIFEST)
        return Entrant(name, target, "package", config=about.get("config") or about.get("settings"))
    if (path / SWEEP).is_file():
        run = _best_run(path)
        return _with_run(Entrant(name, target, "sweep"), run)
    if (path / CONFIG).is_file() and not find.is_policy(path):
        return _with_run(Entrant(name, target, "run"), path)
    if find.find_checkpoint(path) is not None:
        from booster_ray.evaluate.target import checkpoint_config, find_checkpoint

        found = find_checkpoint(path)
        made = Entrant(name, target, "checkpoint", config=checkpoint_config(found).to_dict())
        of_run = (path.parent / PROGRESS).is_file()
        made.run = path.parent if of_run else None
        made.history = ProgressReader(path.parent).read() if of_run else History()
        return made
    if (path / JSON).is_file():
        return Entrant(name, target, "evaluation")
    raise ConfigError(
        str(path), "holds nothing to compare, expected a run, a sweep, a checkpoint, a package or "
        f"an evaluation ({JSON})",
    )  # fmt: skip


def _best_run(sweep: Path) -> Path:
    """The folder of the run whose policy is the sweep's best.

    Of a sweep that has not ended the run with the best score, without any score its first.
    """
    if (sweep / BEST).is_file():
        best = _json(sweep / BEST)
        return trial_directory(sweep, int(best["trial"]), int(best.get("best_seed", 0)))
    trials = sorted(path for path in (sweep / TRIALS).glob("*") if path.is_dir())
    runs = [run for trial in trials for run in (trial, *further_runs(trial))]
    if not runs:
        raise ConfigError(str(sweep), "is a sweep without a trial, expected at least one")
    scores = [ProgressReader(run).read().best_score for run in runs]
    known = [i for i, score in enumerate(scores) if score is not None]
    return runs[max(known, key=lambda i: scores[i] or 0.0, default=0)]


def _with_run(entrant: Entrant, run: Path) -> Entrant:
    entrant.run, entrant.history = run, ProgressReader(run).read()
    trial = run if (run / "seed_1").is_dir() else run.parent
    family = (trial, *further_runs(trial)) if further_runs(trial) else (run,)
    entrant.repeats = tuple(other for other in family if other != run)
    if (run / CONFIG).is_file():
        entrant.config = load(run / CONFIG).base().to_dict()
    return entrant


def read_evaluation(file: Path) -> tuple[str, list[Episode]]:
    """The world and the episodes of what ``evaluate --output`` wrote.

    Raises:
        ConfigError: it is not that, or cut short.
    """
    told = _json(file)
    names = {one.name for one in fields(Episode)}
    try:
        each = [Episode(**{k: v for k, v in e.items() if k in names}) for e in told["each"]]
        known = all(e.task in game.TASKS and isinstance(e.score, float) for e in each)
        world = str(told["world"])
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known or not each:
        raise ConfigError(str(file), "is no evaluation, expected one by evaluate --output")
    return world, each


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(str(file), "not JSON, or cut short") from None
    if not isinstance(told, dict):
        raise ConfigError(str(file), "not a mapping")
    return told


def config_differences(entrants: Sequence[Entrant]) -> dict[str, list[Any]]:
    """Dotted key to its value for each entrant, where those that have a config differ.

    What an entrant's config does not say, or of an entrant without one, is None.
    """
    flat = [_flat(entrant.config or {}) for entrant in entrants]
    known = [one for one in flat if one]
    keys = dict.fromkeys(key for one in known for key in one if key not in WHERE)
    return {
        key: [one.get(key) for one in flat]
        for key in keys
        if any(one.get(key) != known[0].get(key) or key not in one for one in known)
    }


def _flat(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.items():
        below = isinstance(value, dict) and value
        found |= _flat(value, f"{path}{name}.") if below else {f"{path}{name}": value}
    return found
