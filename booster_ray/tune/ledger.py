"""What is settled of a sweep's trials, each thing once: with what one is run, and how it ended.

``trials/NNNN/spec.json`` is made before a trial runs, ``verdict.json`` when it has ended; neither
is changed afterwards, whoever tries. On remote storage the files there are what counts, those of
this machine are copies. The Optuna study (:mod:`booster_ray.tune.study`) is made from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from booster_ray.config import ConfigError
from booster_ray.store.durable import create_file, names_in, replace_text
from booster_ray.store.files import SPEC, VERDICT
from booster_ray.store.progress import History
from booster_ray.store.remote import RemoteFolder
from booster_ray.tune.records import TrialRecord, finite, json_ready

FORMAT = 1
TRIALS = "trials"
AT_ONCE = 16
"""Files that are read or made on remote storage at a time."""

End = Literal["COMPLETE", "PRUNED", "FAIL"]

T = TypeVar("T")


@dataclass(frozen=True)
class Spec:
    """With what a trial is run."""

    number: int
    params: dict[str, Any]
    """Swept values by dotted config key, as configs have them."""
    user_attrs: dict[str, Any] = field(default_factory=dict)
    """What a user who enqueued it said of it."""


@dataclass(frozen=True)
class Verdict:
    """How a trial ended."""

    state: End
    """``PRUNED``: stopped by the scheduler."""
    values: list[float] | None
    """Its objectives; None where it has failed."""
    error: str | None = None
    """One line."""
    env_steps: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    """The report with the best score; ``{}`` without one."""
    scores: list[list[float]] = field(default_factory=list)
    """``[env_steps, score]`` of each report with a finite score."""
    more: list[dict[str, Any]] = field(default_factory=list)
    """``env_steps`` and ``best`` of each run beside the first, which differs in the seed alone."""


def verdict_of(record: TrialRecord, objectives: Sequence[str], end: End) -> Verdict:
    """What is written down of a trial that has ended so; without its objectives it has failed."""
    values = [record.objective(name) for name in objectives]
    known = [value for value in values if value is not None]
    if end == "FAIL" or len(known) < len(values):
        end, known = "FAIL", []
    return Verdict(
        state=end,
        values=known or None,
        error=record.error,
        **_reached(record.history),
        scores=scores_of(record.history),
        more=[_reached(run.history) for run in record.more],
    )


def _reached(history: History) -> dict[str, Any]:
    steps = int(history.latest("env_steps") or 0)
    return {"env_steps": steps, "best": json_ready(history.best)}


def scores_of(history: Iterable[dict[str, float]]) -> list[list[float]]:
    """``[env_steps, score]`` of each report with a finite score; the untrained policy's is none."""
    scored = [(report["env_steps"], finite(report.get("score"))) for report in history]
    return [[int(steps), score] for steps, score in scored if steps and score is not None]


class Ledger:
    """The specs and verdicts of one sweep.

    Args:
        root: the sweep's folder on this machine.
        remote: the sweep's folder on remote storage; None: ``root`` is the storage.
        guard: called before every write; raises where this driver may not write any more.

    Raises:
        OSError: from every method, when the storage cannot be used.
        ConfigError: from :meth:`read`, when a file is damaged or of another format.
    """

    def __init__(
        self,
        root: Path,
        remote: RemoteFolder | None = None,
        guard: Callable[[], object] = lambda: None,
    ) -> None:
        self._root, self._remote, self._guard = root, remote, guard
        self.specs: dict[int, Spec] = {}
        self.verdicts: dict[int, Verdict] = {}

    def read(self) -> None:
        """Bring what is known here up to date with the storage."""
        numbers = {n for n in map(_number, names_in(self._root / TRIALS)) if n is not None}
        if self._remote:
            numbers |= {n for n in map(_number, self._remote.names(TRIALS)) if n is not None}

        def one(number: int) -> tuple[Spec | None, Verdict | None]:
            spec = self._known(number, SPEC)
            verdict = self._known(number, VERDICT) if spec else None
            return (
                Spec(**spec) if spec else None,
                Verdict(**verdict) if verdict else None,
            )

        found = self._each(one, sorted(numbers))
        for number, (spec, verdict) in zip(sorted(numbers), found, strict=True):
            if spec:
                self.specs[number] = spec
            if verdict:
                self.verdicts[number] = verdict

    def enter(self, spec: Spec) -> Spec:
        """Settle with what a trial is run; returns what counts: what was settled before stays."""
        if spec.number not in self.specs:
            found = self._made(spec.number, SPEC, asdict(spec))
            self.specs[spec.number] = Spec(**found)
        return self.specs[spec.number]

    def close(self, number: int, verdict: Verdict) -> Verdict:
        """Settle how a trial ended; returns what counts: what was settled before stays."""
        if number not in self.verdicts:
            content = asdict(verdict)
            if not verdict.more:  # releases before this one know nothing of seeds
                del content["more"]
            found = self._made(number, VERDICT, content)
            self.verdicts[number] = Verdict(**found)
        return self.verdicts[number]

    def enter_all(self, specs: Iterable[Spec], verdicts: dict[int, Verdict]) -> None:
        """:meth:`enter` and :meth:`close` of many, several at a time."""
        self._each(self.enter, list(specs))
        self._each(lambda number: self.close(number, verdicts[number]), list(verdicts))

    def _each(self, call: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        if self._remote is None or len(items) < 2:
            return [call(item) for item in items]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(call, items))

    def _made(self, number: int, name: str, content: dict[str, Any]) -> dict[str, Any]:
        """Make a file if it is not there; what it holds then."""
        self._guard()
        local, there = self._local(number, name), f"{TRIALS}/{number:04d}/{name}"
        data = (json.dumps({"format": FORMAT, **content}) + "\n").encode()
        local.parent.mkdir(parents=True, exist_ok=True)
        if self._remote is None:
            if not create_file(local, data):
                data = local.read_bytes()
        else:
            if not self._remote.create(there, data):
                data = self._remote.read(there) or data
            replace_text(local, data.decode())
        return _content(data, str(local))

    def _known(self, number: int, name: str) -> dict[str, Any] | None:
        local = self._local(number, name)
        try:
            # It was made there first, and is never changed.
            return _content(local.read_bytes(), str(local))
        except (FileNotFoundError, ConfigError) as error:
            if self._remote is None and isinstance(error, ConfigError):
                raise
        data = self._remote.read(f"{TRIALS}/{number:04d}/{name}") if self._remote else None
        if data is None:
            return None
        found = _content(data, f"{TRIALS}/{number:04d}/{name} in the storage")
        local.parent.mkdir(parents=True, exist_ok=True)
        replace_text(local, data.decode())
        return found

    def _local(self, number: int, name: str) -> Path:
        return self._root / TRIALS / f"{number:04d}" / name


def _number(name: str) -> int | None:
    return int(name) if re.fullmatch(r"\d{4,}", name) else None


def _content(data: bytes, place: str) -> dict[str, Any]:
    """A file's fields.

    Raises:
        ConfigError: it is damaged, or of a format that this release does not know.
    """
    try:
        found: dict[str, Any] = json.loads(data)
        version = found.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError(place, "is damaged; restore it from a copy, or remove it") from None
    if version != FORMAT:
        text = f"is of format {version}, expected {FORMAT}: go on with the release that wrote it"
        raise ConfigError(place, text)
    return found
