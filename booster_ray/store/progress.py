"""The reports of a run, read as they come and kept in little memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from booster_ray.store.files import PROGRESS
from booster_ray.store.tail import Tail


class _Shape(NamedTuple):
    """What reports have in common that say the same things."""

    keys: tuple[str, ...]
    types: tuple[type, ...]
    column: dict[str, int]


_SHAPES: dict[tuple[tuple[str, ...], tuple[type, ...]], _Shape] = {}
"""Over all runs, so that a thousand trials hold their keys once."""
_KEPT = (int, float, bool)


class History(Sequence[dict[str, float]]):
    """Reports in the order of their making; as a sequence, one dict each.

    Numbers are kept as rows of doubles, a table for each set of keys: 8 bytes a number, where
    dicts of a thousand trials would take hundreds of MB. What is no number reads as NaN.
    """

    def __init__(self, reports: Iterable[Mapping[str, float]] = ()) -> None:
        self.clear()
        for report in reports:
            self.append(report)

    def clear(self) -> None:
        """Forget all of them."""
        self._tables: list[tuple[_Shape, array[float]]] = []
        self._table_of: dict[int, int] = {}
        self._places = array("I")
        """Of each report its table, then its row there."""
        self._best, self._best_score = -1, -math.inf

    def append(self, report: Mapping[str, float]) -> None:
        """One more."""
        values = tuple(report.values())
        keys, types = tuple(report), tuple(map(type, values))
        shape = _SHAPES.get((keys, types)) or _shape(keys, types)
        index = self._table_of.get(id(shape))
        if index is None:
            index = self._table_of[id(shape)] = len(self._tables)
            self._tables.append((shape, array("d")))
        rows = self._tables[index][1]
        self._places.extend((index, len(rows) // max(1, len(keys))))
        try:
            rows.extend(values)
        except (TypeError, OverflowError):
            del rows[self._places[-1] * len(keys) :]
            rows.extend(map(_double, values))
        score = report.get("score")
        if isinstance(score, _KEPT) and math.isfinite(score) and score > self._best_score:
            self._best, self._best_score = len(self) - 1, float(score)

    def __len__(self) -> int:
        return len(self._places) // 2

    @overload
    def __getitem__(self, index: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, float]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = range(len(self))[index]
        return [self._report(i) for i in found] if isinstance(found, range) else self._report(found)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return map(self._report, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _report(self, index: int) -> dict[str, float]:
        table, row = self._places[2 * index : 2 * index + 2]
        (keys, types, _), rows = self._tables[table]
        values = rows[row * len(keys) : (row + 1) * len(keys)]
        return {
            key: value if kind is float or not math.isfinite(value) else kind(value)
            for key, kind, value in zip(keys, types, values, strict=True)
        }

    @property
    def best(self) -> dict[str, float]:
        """The report with the highest finite score, the earliest of equals; `{}` without one."""
        return self._report(self._best) if self._best >= 0 else {}

    @property
    def best_score(self) -> float | None:
        """Its score."""
        return self._best_score if self._best >= 0 else None

    def latest(self, key: str) -> float | None:
        """The newest finite value of ``key``."""
        if not any(key in shape.column for shape, _ in self._tables):
            return None
        for index in range(len(self) - 1, -1, -1):
            table, row = self._places[2 * index : 2 * index + 2]
            shape, rows = self._tables[table]
            column = shape.column.get(key)
            if column is not None:
                value = rows[row * len(shape.keys) + column]
                if math.isfinite(value):
                    return value
        return None

    @property
    def keys(self) -> set[str]:
        """All that any report says."""
        return {key for shape, _ in self._tables for key in shape.keys}

    def curve(self, key: str) -> NDArray[np.float64]:
        """(control steps, value), ``(n, 2)``, in order and finite.

        After a restore the later of two equal steps counts.
        """
        places = np.array(self._places, np.int64).reshape(-1, 2)
        found = np.full((len(self), 2), np.nan)
        for index, (shape, rows) in enumerate(self._tables):
            if "env_steps" in shape.column and key in shape.column:
                table = np.array(rows).reshape(-1, len(shape.keys))
                columns = [shape.column["env_steps"], shape.column[key]]
                found[places[:, 0] == index] = table[:, columns]
        found = found[np.isfinite(found).all(1)]
        # Of equals `unique` gives the first.
        _, first = np.unique(found[::-1, 0], return_index=True)
        return found[::-1][first]


def _shape(keys: tuple[str, ...], types: tuple[type, ...]) -> _Shape:
    kept = tuple(kind if kind in _KEPT else float for kind in types)
    shape = _Shape(keys, kept, {key: i for i, key in enumerate(keys)})
    return _SHAPES.setdefault((keys, types), shape)


def _double(value: object) -> float:
    try:
        return float(value) if isinstance(value, _KEPT) else math.nan
    except OverflowError:
        return math.nan


class ProgressReader:
    """The reports of one run; every reading costs what is new since the one before.

    Args:
        directory: the run's.
    """

    def __init__(self, directory: Path) -> None:
        self._tail, self._history = Tail(directory / PROGRESS), History()

    def read(self) -> History:
        """All reports so far, the same object every time; a run that was cut back has fewer.

        Raises:
            OSError: they cannot be read at this moment.
        """
        while True:
            reports, anew = self._tail.read()
            if anew:
                self._history.clear()
            for report in reports:
                self._history.append(report)
            if not reports:
                return self._history
