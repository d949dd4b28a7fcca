"""The last lines that a process wrote to its standard error before it died without a word to us.

What a C library says when it ends a process ("Assertion … failed", "terminate called after …") goes
to standard error, which in a Ray worker is a file of the node. So a process that trains writes down
at its start which file that is; whoever finds it dead reads the end of the file, on that node.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

from booster_ray.config import Config
from booster_ray.store.durable import replace_text
from booster_ray.store.folder import publish

NOTES = "stderr-*.json"
"""In a run's folder: ``host``, ``node`` (Ray's id), ``path`` of a process's standard error and
where that ended then (``from``)."""
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
    said: dict[str, str] = {}
    for note in sorted(directory.glob(NOTES)):
        with suppress(OSError, ValueError, KeyError):
            about = json.loads(note.read_text(encoding="utf-8"))
            said[note.name] = meaningful(_tail(about))
    waiting = said.pop(NOTES.replace("*", WAITING), "")
    return "; ".join(dict.fromkeys(words for words in said.values() if words)) or waiting


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
