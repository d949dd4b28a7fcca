"""Search distributions: what a sweep may put in the place of one setting."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from booster_ray.config.errors import Problem, choices, hint, show

_KEYS = {
    "uniform": ("search", "low", "high"),
    "loguniform": ("search", "low", "high"),
    "int": ("search", "low", "high"),
    "logint": ("search", "low", "high"),
    "choice": ("search", "values"),
    "grid": ("search", "values"),
}


@dataclass(frozen=True)
class FloatRange:
    """A number in [low, high], uniform in its value or, with `log`, in its logarithm."""

    low: float
    high: float
    log: bool = False

    @property
    def kind(self) -> str:
        """Name in YAML."""
        return "loguniform" if self.log else "uniform"

    def ends(self) -> dict[str, float]:
        """The values that decide whether the whole range is allowed, by their place in YAML."""
        return {"low": self.low, "high": self.high}

    def cast(self, value: Any) -> float:
        """A sampled value as a plain float. Raises TypeError or ValueError."""
        if isinstance(value, (str, bytes, bool)):
            raise TypeError(value)
        return float(value)


@dataclass(frozen=True)
class IntRange:
    """An integer in [low, high], uniform in its value or, with `log`, in its logarithm."""

    low: int
    high: int
    log: bool = False

    @property
    def kind(self) -> str:
        """Name in YAML."""
        return "logint" if self.log else "int"

    def ends(self) -> dict[str, int]:
        """The values that decide whether the whole range is allowed, by their place in YAML."""
        return {"low": self.low, "high": self.high}

    def cast(self, value: Any) -> int:
        """A sampled value as a plain int. Raises TypeError."""
        if isinstance(value, bool):
            raise TypeError(value)
        return operator.index(value)


@dataclass(frozen=True)
class Choice:
    """One of several values, of any type that the setting takes (lists included)."""

    values: tuple[Any, ...]
    grid: bool = False
    """Whether every value is tried, with every one of other grids."""

    @property
    def kind(self) -> str:
        """Name in YAML."""
        return "grid" if self.grid else "choice"

    def ends(self) -> dict[str, Any]:
        """Every value, by its place in YAML."""
        return {f"values.{i}": value for i, value in enumerate(self.values)}

    def cast(self, value: Any) -> Any:
        """The value as it is."""
        return value


Distribution = FloatRange | IntRange | Choice


def parse(raw: Mapping[str, Any]) -> Distribution:
    """The distribution that a `{search: …}` mapping describes.

    Raises Problem, whose path starts inside the mapping.
    """
    kind = raw.get("search")
    if not isinstance(kind, str) or kind not in _KEYS:
        text = f"is {show(kind)}, expected {choices(_KEYS)}{hint(kind, _KEYS)}"
        raise Problem(("search",), text)
    keys = _KEYS[kind]
    for key in raw:
        if key not in keys:
            text = f"unknown key, expected {choices(keys)} in a {kind} search{hint(key, keys)}"
            raise Problem((key,), text)
    for key in keys:
        if key not in raw:
            raise Problem((), f"{kind} search without {key!r}, expected {', '.join(keys)}")
    if kind in ("choice", "grid"):
        return _choice(raw["values"], kind == "grid")
    return _range(kind, raw["low"], raw["high"])


def _choice(values: Any, grid: bool) -> Choice:
    if not isinstance(values, list) or not values:
        raise Problem(("values",), f"is {show(values)}, expected a non-empty list")
    seen = [repr(value) for value in values]  # by text: 1 and true are two values
    for i, text in enumerate(seen):
        if text in seen[:i]:
            raise Problem(("values", str(i)), "repeats an earlier value, expected each once")
    return Choice(tuple(values), grid)


def _range(kind: str, low: Any, high: Any) -> FloatRange | IntRange:
    whole = kind in ("int", "logint")
    for key, value in (("low", low), ("high", high)):
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not (whole or _finite(value)):
            expected = "an integer" if whole else "a finite number"
            raise Problem((key,), f"is {show(value)}, expected {expected}")
    if low >= high:
        raise Problem((), f"low {show(low)} is not below high {show(high)}, expected low < high")
    log = kind.startswith("log")
    if log and low <= 0:
        raise Problem(("low",), f"is {show(low)}, expected above 0 in a {kind} search")
    return IntRange(low, high, log) if whole else FloatRange(float(low), float(high), log)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False
