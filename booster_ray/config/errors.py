"""What is wrong with a config, in one line."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
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


def blame(error: BaseException) -> str:
    """An error of a user's code in one line: `ValueError: no such map (my_env.py:12)`.

    The place is the innermost line of the user's own files, else of an installed package, else
    none is told.
    """
    try:
        # A syntax error's text repeats its place, which is told behind.
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # the error is the user's class, and its `__str__` may fail as well
        text = ""
    lines = text.strip().splitlines()
    first = lines[0] if lines else ""
    name, told = type(error).__name__, first if len(first) <= 300 else f"{first[:299]}…"
    place = _place(error)
    return f"{name}{f': {told}' if told else ''}{f' ({place})' if place else ''}"


OWN = Path(__file__).parents[1]
"""This package's folder."""


def _place(error: BaseException) -> str | None:
    frames = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append((Path(error.filename), error.lineno))
    return users_place(frames) or _told([f for f in _foreign(frames) if _installed(f[0])])


Line = tuple[Path, int]
"""Of a stack: a file and a line of it."""


def users_place(frames: Sequence[Line]) -> str | None:
    """The innermost line of the user's own files in a stack, `my_env.py:12`; None: none is."""
    library = Path(sysconfig.get_path("stdlib"))
    return _told(
        f for f in _foreign(frames) if not _installed(f[0]) and not f[0].is_relative_to(library)
    )


def _foreign(frames: Sequence[Line]) -> list[Line]:
    # Frames without a file, as "<frozen importlib._bootstrap>" and "<string>", are nobody's.
    named = [f for f in frames if not str(f[0]).startswith("<")]
    return [f for f in named if not f[0].is_relative_to(OWN)]


def _installed(path: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(path.parts))


def _told(lines: Iterable[Line]) -> str | None:
    """The last of them."""
    found = list(lines)
    if not found:
        return None
    path, line = found[-1]
    name = path.name if path.stem != "__init__" else f"{path.parent.name}/{path.name}"
    return f"{name}:{line}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
