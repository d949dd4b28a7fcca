"""Why an attempt at a run failed: beside its work, one line, whose fault it was, the traceback.

Blame goes by where an error arises, never by its kind: an environment may raise an OSError as
well as a disk. What is raised while checkpoints and records are read or written, inside
:func:`storing`, is our storage's failure; all else is the run's own.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from booster_ray.config.errors import blame
from booster_ray.store.durable import replace_text
from booster_ray.store.remote import StorageError

ERROR = "error.txt"
"""One line, when the last attempt failed."""
FAILURE = "error.json"
"""The same line as ``text``, and ``how`` the attempt ended."""
TRACEBACK = "traceback.txt"
FILES = (ERROR, FAILURE, TRACEBACK)

LONGEST_TRACEBACK = 2**17
"""Characters; of a longer one the end is kept, where the error is."""

T = TypeVar("T")


class Failure(NamedTuple):
    """What is written down of one."""

    how: str
    """``error``, ``storage`` or ``died``, as :data:`booster_ray.store.attempts.How`."""
    text: str
    """One line."""


class LeftEarly(RuntimeError):
    """An environment or another part of a user's asked the whole process to exit."""


@contextmanager
def storing() -> Iterator[None]:
    """What a disk or a share raises inside passes on as storage's failure.

    Raises:
        StorageError: in place of an OSError that is not :func:`apart`; the number of the system's
            error is kept.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if getattr(error, "of_the_run", False):
            raise
        if error.errno is None:
            raise StorageError(one_line(error)) from error
        raise StorageError(error.errno, error.strerror, error.filename) from error


def apart(call: Callable[[], T]) -> Callable[[], T]:
    """The same call, whose errors are the run's own though it is made while storing."""

    def called() -> T:
        try:
            return call()
        except OSError as error:
            error.of_the_run = True  # type: ignore[attr-defined]
            raise

    return called


def record_failure(directory: Path, error: BaseException) -> None:
    """Write down why an attempt failed, where nothing is written down yet: the first is the cause.

    Where storage is away nothing is written; the error that is on its way says more than another.
    """
    if (directory / FAILURE).exists():
        return
    died = getattr(error, "of_others", False)  # another worker of the run has, see ddpg.team
    how = "storage" if isinstance(error, StorageError) else "died" if died else "error"
    text = _encodable(one_line(error) if _ours(error) else blame(error))
    trace = _encodable("".join(traceback.format_exception(error)))[-LONGEST_TRACEBACK:]
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        replace_text(directory / TRACEBACK, trace)
        replace_text(directory / ERROR, text)
        # Last: whoever finds it finds the others.
        replace_text(directory / FAILURE, json.dumps({"how": how, "text": text}) + "\n")


@contextmanager
def recorded(directory: Path) -> Iterator[None]:
    """What is raised inside is written down by :func:`record_failure`, and passes on.

    Raises:
        LeftEarly: in place of a SystemExit, which would look like an end.
    """
    try:
        yield
    except SystemExit as error:
        left = LeftEarly(f"the run's own code has asked the process to exit ({error.code})")
        left.__cause__ = error
        record_failure(directory, left)
        raise left from error
    except Exception as error:
        record_failure(directory, error)
        raise


def forget_failure(directory: Path) -> None:
    """Before an attempt, so that what is found later is this one's.

    Raises:
        OSError: the directory cannot be reached.
    """
    for name in FILES:
        (directory / name).unlink(missing_ok=True)


def read_failure(directory: Path) -> Failure | None:
    """Why the last attempt failed; None: nothing was written.

    An earlier release wrote the line alone; it is then the run's own error.
    """
    try:
        found = json.loads((directory / FAILURE).read_text(encoding="utf-8"))
        return Failure(str(found["how"]), str(found["text"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    try:
        return Failure("error", (directory / ERROR).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None


def text_of(directory: Path, error: BaseException) -> str:
    """A failure as a command tells it: one line, which says where the traceback is kept."""
    record_failure(directory, error)  # unless that is done
    found, trace = read_failure(directory), directory / TRACEBACK
    text = found.text if found else one_line(error)
    return f"{text}; its traceback is in {trace}" if trace.exists() else text


def one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    try:
        text = str(error)
    except Exception:  # the error is the user's class, and its `__str__` may fail as well
        text = ""
    return (f"{type(error).__name__}: {text}".splitlines() or [""])[0]


def _ours(error: BaseException) -> bool:
    """Whether this package raised it: its texts say all that there is to say."""
    return type(error).__module__.startswith("booster_ray.")


def _encodable(text: str) -> str:
    """Without what UTF-8 cannot say: half of a pair, as in names of files."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
