"""What trackers are told of a run beside its numbers: who it is, where it comes from, how it goes.

All of it is read from the folder of a sweep or run, so that it can be told again at any time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from booster_ray.config import Choice, Config, Sweep, load
from booster_ray.config.experiments import EXPERIMENT
from booster_ray.store import gate_results
from booster_ray.store.durable import names_in, replace_text
from booster_ray.store.files import (
    CONFIG,
    ERROR,
    GATES,
    RUN_ID,
    SPEC,
    STOP_FILE,
    SWEEP,
    SYSTEM,
    TRIALS,
    further_runs,
    last_report,
    run_id,
    trial_name,
)
from booster_ray.store.model_folder import git_commit
from booster_ray.store.tail import Tail

STATUSES = "statuses.json"
"""In a sweep's folder: trial -> its status, as of the leaderboard."""

Kind = Literal["sweep", "trial", "seed", "run"]
"""``seed``: a trial's further run, which differs from the trial's first in the seed alone."""
Status = Literal["running", "finished", "failed", "waiting"]
_STATUS: dict[str, Status] = {
    "RUNNING": "running", "TERMINATED": "finished", "STOPPED": "finished", "ERROR": "failed",
    "PAUSED": "waiting", "PENDING": "waiting",
}  # fmt: skip


@dataclass(frozen=True)
class TrackedRun:
    """A sweep, a trial of one, or a run by itself; what does not change."""

    id: str
    name: str
    kind: Kind
    directory: Path
    config: Config
    searched: dict[str, Any]
    """Swept settings, by dotted key; of a sweep what is searched."""
    lineage: dict[str, str]
    """Where it comes from: stage, config hash, git commit, randomization level, parent model."""
    parent: TrackedRun | None = None
    """The sweep of a trial, the trial of a further seed."""

    @property
    def group(self) -> str | None:
        """What it is shown together with: the other trials, or the other seeds of its trial."""
        several = self.kind == "trial" and self.config.tune.seeds > 1
        return self.name if several else self.parent.name if self.parent else None

    @property
    def began(self) -> float:
        """Unix time."""
        return (self.directory / RUN_ID).stat().st_mtime


@dataclass(frozen=True)
class State:
    """How it goes; what changes."""

    status: Status
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    """For people, Markdown."""
    files: dict[Path, float] = field(default_factory=dict)
    """To be kept with the run, and when each was written."""
    alerts: tuple[str, ...] = ()
    """One line each, in the order in which they came."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.status in ("finished", "failed")


class TrackedFolder:
    """A sweep and its trials, or a run by itself; several threads may ask.

    Args:
        root: the folder of either.

    Raises:
        ConfigError: the folder's config cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.is_sweep = (root / SWEEP).is_file()
        self.sweep = load(root / (SWEEP if self.is_sweep else CONFIG))
        self._base = self.sweep.base()
        self._commit = git_commit()
        self._known: dict[Path, TrackedRun] = {}
        self._alarms: dict[Path, tuple[Tail, list[str]]] = {}
        self._told: tuple[object, dict[str, str]] = (None, {})
        self._lock = threading.Lock()

    def subjects(self) -> list[TrackedRun]:
        """All that have begun; a sweep before its trials, a trial before its further seeds."""
        folders = [self.root]
        for name in names_in(self.root / TRIALS) if self.is_sweep else ():
            trial = self.root / TRIALS / name
            folders += [trial, *(further_runs(trial) if self._base.tune.seeds > 1 else ())]
        with self._lock:
            found = [self._known.get(folder) or self._subject(folder) for folder in folders]
        return [subject for subject in found if subject]

    def _subject(self, folder: Path) -> TrackedRun | None:
        identity, top = run_id(folder), folder == self.root
        written = folder / (SWEEP if top and self.is_sweep else CONFIG)
        if identity is None or not written.is_file():
            return None
        name = trial_name(folder)
        further = folder.parent if not top and "/" in name else None
        if further and further not in self._known:
            return None
        config = self._base if top else load(written).base()
        tree = config.to_dict()
        self._known[folder] = subject = TrackedRun(
            id=identity,
            name=config.name if top else f"{config.name}/{name}",
            kind=("sweep" if self.is_sweep else "run") if top else "seed" if further else "trial",
            directory=folder,
            config=config,
            searched=self._searched() if top else self._chosen(further or folder, tree),
            lineage=self._lineage(config, self.sweep if top else None),
            parent=None if top else self._known.get(further or self.root),
        )
        return subject

    def _searched(self) -> dict[str, str]:
        """What trials differ in, and how widely."""
        return {
            key: ", ".join(map(str, found.values))
            if isinstance(found, Choice)
            else _range(_at(self.sweep.raw, key))
            for key, found in self.sweep.space.items()
        }

    def _chosen(self, trial: Path, tree: Any) -> dict[str, Any]:
        """A trial's values of what trials differ in; ``tree`` is its config."""
        found = {key: _at(tree, key) for key in self.sweep.space if key != EXPERIMENT}
        name = experiment_of(trial) if self.sweep.experiments else None
        return found if name is None else {EXPERIMENT: name, **found}

    def _lineage(self, config: Config, sweep: Sweep | None) -> dict[str, str]:
        space = sweep.space if sweep else {}
        level = "searched" if "randomization.level" in space else str(config.randomization.level)
        return {
            "stage": config.stage,
            "dr_level": level,
            "tasks": ", ".join(config.tasks),
            "config_hash": config.digest(),
            "parent_model": config.start_from or "none",
            **({"git_commit": self._commit} if self._commit else {}),
        }

    def state(self, subject: TrackedRun) -> State:
        """How a subject stands now."""
        folder = subject.directory
        if subject.kind == "sweep":
            return self._sweep_state(folder)
        status, label = self._status(subject), gate_results.label(folder)
        error = _text(folder / ERROR) if status == "failed" else ""
        tags = {
            **({"gates": label} if label else {}),
            **{f"gate_{n}": "passed" if ok else "failed" for n, ok in _gates(folder).items()},
            **({"error": error[:500]} if error else {}),
        }
        note = _described(subject) + (f"\n\n**Failed:** {error}" if error else "")
        files = _written(folder / name for name in (CONFIG, GATES))
        alerts = (*self._alerts(folder), *([f"failed: {error}"] if error else []))
        return State(status, tags, note, files, alerts)

    def _sweep_state(self, root: Path) -> State:
        statuses = self._statuses()
        board = _text(root / "leaderboard.md")
        stopped = (root / STOP_FILE).exists()
        status: Status = "finished" if board else "waiting" if stopped else "running"
        counts = {
            name: str(sum(one == name for one in statuses.values()))
            for name in ("TERMINATED", "STOPPED", "ERROR")
        }
        tags = {f"trials_{name.lower()}": number for name, number in counts.items()}
        names = (SWEEP, "leaderboard.md", "leaderboard.json", "report.html")
        wanted = self._base.tune.trials
        swept = ", ".join(f"`{key}`" for key in self.sweep.space) or "nothing"
        note = f"{wanted} trials over {swept}\n\n{board}".strip()
        return State(status, tags, note, _written(root / name for name in names))

    def _status(self, subject: TrackedRun) -> Status:
        folder = subject.directory
        if subject.kind == "trial":
            return self._trial_status(folder)
        report = last_report(folder)
        if report and report["env_steps"] >= subject.config.training.env_steps:
            return "finished"
        if subject.kind == "seed":
            return self._trial_status(folder.parent)
        if (folder / ERROR).exists():
            return "failed"
        return "waiting" if (folder / STOP_FILE).exists() else "running"

    def _trial_status(self, trial: Path) -> Status:
        return _STATUS.get(self._statuses().get(trial.name, "PENDING"), "waiting")

    def _statuses(self) -> dict[str, str]:
        """Of all trials, each of which asks: read again only when they were written again."""
        try:
            found = (self.root / STATUSES).stat()
        except OSError:
            return {}
        written = found.st_ino, found.st_mtime_ns, found.st_size
        if self._told[0] != written:
            self._told = written, read_statuses(self.root)
        return self._told[1]

    def _alerts(self, folder: Path) -> list[str]:
        with self._lock:
            tail, lines = self._alarms.setdefault(folder, (Tail(folder / SYSTEM), []))
            lines += [str(row["alert"]) for row in tail.read()[0] if "alert" in row]
            return list(lines)


def read_statuses(root: Path) -> dict[str, str]:
    """Status of each trial of a sweep that has begun."""
    try:
        found: dict[str, str] = json.loads(_text(root / STATUSES))
    except ValueError:
        return {}
    return found


def write_statuses(root: Path, statuses: Mapping[str, str]) -> None:
    """Say how the trials of a sweep stand. Raises OSError."""
    replace_text(root / STATUSES, json.dumps(statuses, sort_keys=True) + "\n")


def flattened(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _described(subject: TrackedRun) -> str:
    found = {**subject.searched} or {"stage": subject.config.stage}
    return ", ".join(f"{key} = {_short(value)}" for key, value in found.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def experiment_of(trial: Path) -> str | None:
    """The experiment that a trial's folder says it is; None: it does not say."""
    try:
        told = json.loads((trial / SPEC).read_text(encoding="utf-8"))
        return str(told["params"][EXPERIMENT])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _range(search: Mapping[str, Any]) -> str:
    """What a config searches a number in, in short."""
    return f"{search['low']} … {search['high']}"


def _at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = tree[name]
    return tree


def _gates(folder: Path) -> dict[str, bool]:
    told = gate_results.read(folder)
    return {n: bool(gate["passed"]) for n, gate in told["gates"].items()} if told else {}


def _written(paths: Any) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in paths if path.is_file()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class Row(NamedTuple):
    """What a tracker is told at one env step."""

    env_steps: int
    metrics: dict[str, float]
    """A report, the newest readings of the machine, and ``best_score`` so far; finite."""
    videos: dict[str, Path]
    """Made since the row before."""
