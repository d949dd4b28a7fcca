"""What a sweep's folder tells beside its records, for the report."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from booster_ray.store.attempts import read_attempts
from booster_ray.store.files import CONFIG, SYSTEM, trial_directory
from booster_ray.store.gate_results import read as read_gates
from booster_ray.store.tail import Tail
from booster_ray.tune.records import TrialRecord, rank

FILMS = "films"
"""Folder beside the best checkpoint: an MP4 for each task."""
WATCHED = 6
"""So many of the best trials have a row of their machine's use."""


class Interruption(NamedTuple):
    """An attempt at a run that did not reach the run's end."""

    trial: str
    when: str
    how: str
    env_steps: int
    """Of the last report before it."""
    seconds: float | None
    """From a notice of preemption to the saved checkpoint."""
    text: str


class GateNumber(NamedTuple):
    """One number of a gate, and the bound that it is held against; both as text."""

    trial: str
    gate: str
    what: str
    found: str
    bound: str
    holds: bool | None


class Use(NamedTuple):
    """Of the machine, while a trial ran: means of utilization (0 to 1), peaks of memory (GiB)."""

    trial: str
    cpu: float | None
    memory: float | None
    gpu: float | None
    gpu_memory: float | None


class Details(NamedTuple):
    """What the report shows beside scores and curves."""

    films: Mapping[str, bytes] = {}
    """Task -> MP4."""
    gates: Sequence[GateNumber] = ()
    interruptions: Sequence[Interruption] = ()
    use: Sequence[Use] = ()
    config: str = ""
    """``sweep.yaml``."""
    commands: Sequence[tuple[str, str]] = ()
    """(what for, command)."""


def read_details(root: Path, name: str, records: Iterable[TrialRecord]) -> Details:
    """All of it, as far as it can be read: a report is worth having without.

    Args:
        root: the sweep's folder.
        name: of the sweep.
        records: its trials.
    """
    ranked = rank(records)
    films = sorted((root / "best" / FILMS).glob("*.mp4"))
    return Details(
        films={path.stem: path.read_bytes() for path in films},
        gates=[row for record in ranked if record.gates for row in _gates(root, record)],
        interruptions=[found for record in ranked for found in _interruptions(root, record)],
        use=[use for record in ranked[:WATCHED] if (use := _use(root, record))],
        config=(root / "sweep.yaml").read_text(encoding="utf-8"),
        commands=_commands(root, name, ranked),
    )


def _runs(root: Path, record: TrialRecord) -> list[Path]:
    return [trial_directory(root, record.number, repeat) for repeat in range(record.seeds)]


def _interruptions(root: Path, record: TrialRecord) -> Iterator[Interruption]:
    for directory in _runs(root, record):
        try:
            ended = read_attempts(directory)
        except OSError:
            continue
        for one in ended:
            text = " ".join(one["text"].split())
            yield Interruption(
                record.label, one["when"], one["how"], one["env_steps"], one["seconds"], text
            )


def _gates(root: Path, record: TrialRecord) -> Iterator[GateNumber]:
    told = read_gates(trial_directory(root, record.number, record.best_run))
    for number, gate in (told or {"gates": {}})["gates"].items():
        title = f"{number} {gate['name']}"
        numbers, passed = gate["numbers"], gate["passed"]
        rows: Iterable[tuple[str, str, str, bool | None]]
        if "max_difference" in numbers:
            rows = _differences(numbers)
        elif "tasks" in numbers:
            rows = _losses(numbers["tasks"])
        else:
            rows = ((k, _text(v), "", passed) for k, v in numbers.items() if not _nested(v))
        for what, found, bound, holds in rows:
            yield GateNumber(record.label, title, what, found, bound, holds)


def _differences(numbers: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Gate 2: the largest difference of what has a bound; the observation's worst part."""
    bounds, found = numbers["bounds"], dict(numbers["max_difference"])
    for name, bound in bounds.items():
        if name == "observation":
            parts = {part: value for part, value in found.items() if part not in bounds}
            worst = max(parts, key=lambda part: parts[part], default="")
            name, value = f"observation, most in {worst}", parts.get(worst, 0.0)
        elif name in found:
            value = found[name]
        else:
            continue
        yield f"largest difference: {name}", _text(value), f"at most {_text(bound)}", value <= bound


def _losses(tasks: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Gate 3: what each task loses from MJX to the official environment."""
    for task, metrics in tasks.items():
        for metric, one in metrics.items():
            found = f"{_text(one['mjx'])} in MJX, {_text(one['official'])} officially"
            bound = f"a loss of at most {_text(one['bound'])}"
            yield f"{task}: {metric}, {one['pairs']} pairs", found, bound, one["holds"]


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _use(root: Path, record: TrialRecord) -> Use | None:
    readings: list[dict[str, Any]] = []
    for directory in _runs(root, record):
        tail = Tail(directory / SYSTEM)
        try:
            while more := tail.read()[0]:
                readings += more
        except OSError:
            continue
    by_name: dict[str, list[float]] = {}
    for reading in readings:
        for name, value in reading.items():
            if isinstance(value, int | float):
                by_name.setdefault(name, []).append(float(value))

    def over(suffix: str, prefix: str) -> list[float]:
        found = (v for k, v in by_name.items() if k.startswith(prefix) and k.endswith(suffix))
        return [one for values in found for one in values]

    cpu, memory = over("utilization", "cpu/"), over("process", "memory/")
    gpu, gpu_memory = over("/utilization", "gpu/"), over("/memory_used", "gpu/")
    if not (cpu or gpu):
        return None
    mean = [statistics.fmean(one) if one else None for one in (cpu, gpu)]
    peak = [max(one, default=None) for one in (memory, gpu_memory)]
    return Use(record.label, mean[0], peak[0], mean[1], peak[1])


def _commands(root: Path, name: str, ranked: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """What makes the sweep and its best trial again, and looks at what came of them."""
    sweep, storage = shlex.quote(str(root / "sweep.yaml")), shlex.quote(str(root.parent))
    quoted = shlex.quote(name)
    further = f"python -m booster_ray.tune --resume {quoted} --storage {storage}"
    found = [
        ("The sweep, anew", f"python -m booster_ray.tune {sweep} name={quoted}-again"),
        ("The sweep, further", further),
    ]
    best = next((record for record in ranked if record.checkpoint), None)
    if best is not None:
        run = trial_directory(root, best.number, best.best_run)
        config, policy = (shlex.quote(str(p)) for p in (run / CONFIG, root / "best" / "checkpoint"))
        again = f"python -m booster_ray.train {config} name={quoted}-best"
        found += [
            (f"Its best trial, {best.label}, alone", again),
            ("The best policy, scored anew", f"python -m booster_ray.evaluate {policy}"),
        ]
    return found
