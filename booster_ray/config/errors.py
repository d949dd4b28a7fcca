"""What is wrong with a config, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A config that cannot be used. `str()` is one printable line: place, key, what, expected."""

    def __init__(self, *parts: str) -> None:
        super().__init__(_printable(": ".join(part for part in parts if part)))


class Problem(Exception):
    """One thing wrong at `path`, before it is known which file or argument put it there.

    `either` are paths that share the blame: the one set last is then named instead.
    """

    def __init__(
        self, path: tuple[str, ...], text: str, either: tuple[tuple[str, ...], ...] = ()
    ) -> None:
        super().__init__(path, text, either)
        self.path, self.text, self.either = path, text, either


def show(value: Any) -> str:
    """A value as an error names it: short, on one line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer beyond some thousands of digits
        return "an enormous integer"
    return text if len(text) <= 60 else f"{text[:50]}…{text[-1]}"


def choices(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *head, last = names
    return f"{', '.join(head)} or {last}" if head else last


def near(name: object, names: Iterable[str]) -> str | None:
    """The name closest to a mistyped one, if any is close."""
    if not isinstance(name, str):
        return None
    found = difflib.get_close_matches(name[:80], list(names), 1)
    return found[0] if found else None


def hint(name: object, names: Iterable[str]) -> str:
    """`; did you mean 'X'?`, or nothing."""
    found = near(name, names)
    return f"; did you mean '{found}'?" if found else ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
