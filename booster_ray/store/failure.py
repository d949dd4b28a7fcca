"""Why an attempt at a run failed: one line, whose fault it was, the traceback, the last words."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from booster_ray.config import Config
from booster_ray.config.errors import blame
from booster_ray.store.durable import replace_text
from booster_ray.store.files import (
    ERROR,
    FAILURE,
    FAILURE_FILES,
    NOTES,
    TRACEBACK,
    last_report,
)
from booster_ray.store.folder import publish
from booster_ray.store.lease import LeaseLost
from booster_ray.store.remote import StorageError

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
    if isinstance(error, LeaseLost) or (directory / FAILURE).exists():
        return  # the folder is another attempt's, or the cause is known
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
    for name in FAILURE_FILES:
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


def last_env_steps(directory: Path) -> int:
    """Env steps of the last report of a run, 0 before the first."""
    report = last_report(directory)
    return int(report["env_steps"]) if report else 0


WAITING = "trial"
"""Who is told of under this name may only wait for others, whose words count before its own."""
TAIL_BYTES = 2**16
LINES, LINE_CHARACTERS = 3, 240
"""What is kept of it."""
NODE_SECONDS = 15.0
"""How long another node may take to answer."""

_NOISE = re.compile(
    r"\s+(?!\s|what\(\):)"  # an indented line belongs to a stack
    r"|:(job_id|actor_name|task_name):"  # Ray's own marks
    r"|\*\*\* SIG|(PC: )?@ |(Current )?[Tt]hread 0x|Extension modules:"
    r"|(Stack|Traceback) \(most"
    r"|Reporting training result |No GPU is watched |[\d-]+ [\d:,.]+\s+INFO\s"  # said in health
    r"|\[[\d-]+ [\d:,.]+ \w \d+ \d+\] logging\.cc"  # Ray repeats the line that stands before
    r"|<no Python frame>|\*+$|-+$|\^+$"
)

_TIMEOUT = re.compile(r"^Timeout \(\d+:\d\d:\d\d(\.\d+)?\)!$", re.MULTILINE)
"""What faulthandler says before the stacks."""


def note_stderr(config: Config, directory: Path, who: str) -> None:
    """At a process's start: write down where its standard error goes, if that is a file.

    Where the note cannot be written the run does without: it is not worth an attempt.

    Args:
        config: the run's.
        directory: the run's.
        who: this process is among those of the run.
    """
    if not stat.S_ISREG(os.fstat(2).st_mode):
        return
    note = {
        "host": _host(),
        "node": _node(),
        "path": os.readlink("/proc/self/fd/2"),
        "from": os.fstat(2).st_size,
    }
    file = directory / NOTES.replace("*", who)
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(note) + "\n")
        publish(config, file)


def forget_stderr(directory: Path) -> None:
    """Before an attempt. Raises OSError."""
    for note in directory.glob(NOTES):
        note.unlink(missing_ok=True)


def last_words(directory: Path) -> str:
    """What the processes of the last attempt said last, in one line; empty: nothing, or unknown."""
    said = {name: meaningful(tail) for name, tail in _tails(directory).items()}
    waiting = said.pop(NOTES.replace("*", WAITING), "")
    return "; ".join(dict.fromkeys(words for words in said.values() if words)) or waiting


def last_stacks(directory: Path) -> str:
    """What faulthandler said when it ended a process of the last attempt; empty: it did not."""
    tails = _tails(directory).values()
    return next((tail[found.start() :] for tail in tails if (found := _TIMEOUT.search(tail))), "")


def _tails(directory: Path) -> dict[str, str]:
    """Note -> the end of the standard error that it is of, where that can be read."""
    said: dict[str, str] = {}
    for note in sorted(directory.glob(NOTES)):
        with suppress(OSError, ValueError, KeyError):
            said[note.name] = _tail(json.loads(note.read_text(encoding="utf-8")))
    return said


def meaningful(text: str) -> str:
    """The last lines of a standard error without stacks and what Ray adds, in one line."""
    lines = [line.rstrip() for line in text.splitlines()]
    told = [line[:LINE_CHARACTERS] for line in lines if line and not _NOISE.match(line)]
    joined = "; ".join(line.strip() for line in told[-LINES:])
    return "".join(c if c.isprintable() else " " for c in joined)


def read_tail(path: str, start: int) -> str:
    """At most ``TAIL_BYTES`` from the end of a file, nothing before ``start``. Raises OSError."""
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(start, size - TAIL_BYTES))
        return stream.read().decode("utf-8", "replace")


def _tail(about: dict[str, object]) -> str:
    path, start = str(about["path"]), int(str(about["from"]))
    if about["host"] == _host() or not about["node"]:
        return read_tail(path, start)
    return _tail_there(str(about["node"]), path, start)


def _tail_there(node: str, path: str, start: int) -> str:
    """Ask the node that has the file, if it still is there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not ray.is_initialized():
        return ""
    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    reading = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(read_tail)
    try:
        return str(ray.get(reading.remote(path, start), timeout=NODE_SECONDS))
    except Exception:  # the node may have died with the process: then nobody knows
        return ""


def _host() -> str:
    """What tells two machines, or two containers on one, apart."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/mnt')}"
    return socket.gethostname()


def _node() -> str:
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        return ""
    return str(sys.modules["ray"].get_runtime_context().get_node_id())
