"""Making a dataset in units, each of which becomes one shard, in processes side by side.

What is done is seen from the shards that are there: a job that was killed goes on with the others,
and no episode is made twice or missing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from booster_ray.config import ConfigError
from booster_ray.data.dataset import DATA, JOB, METADATA, Dataset, shard_name
from booster_ray.runtime.signals import stop_signals
from booster_ray.store.durable import replace_text
from booster_ray.store.lock import try_lock

LOCK = ".lock"
WATCH_SECONDS = 1.0
"""How often a process looks whether whoever began it still lives."""


class Unit(NamedTuple):
    """What one shard is made of."""

    number: int
    size: int
    """Of progress: episodes, or files."""
    what: Any
    """For the function that makes it."""


Make = Callable[[Any, Path], int]
"""(what, path of the shard) → episodes in it; of a module, because processes are given it."""


class Stopped(Exception):
    """A signal asked to stop; what was made so far is kept."""


@contextmanager
def begun(folder: Path, job: Mapping[str, Any]) -> Iterator[bool]:
    """Hold a dataset's folder and its job, new or the same as before.

    Args:
        folder: of the dataset.
        job: JSON: all that decides what its episodes are.

    Yields:
        Whether the dataset is whole already.

    Raises:
        ConfigError: the folder holds something else, another job, or another process works there.
    """
    _check(folder, job)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = try_lock(folder / LOCK)
    except OSError as error:
        raise ConfigError("command line", "--output", f"{folder}: {error.strerror}") from None
    if held is None:
        raise ConfigError(str(folder), "is being written by another process")
    with held:
        replace_text(folder / JOB, json.dumps(job, indent=1, sort_keys=True) + "\n")
        yield _whole(folder)


def _check(folder: Path, job: Mapping[str, Any]) -> None:
    file = folder / JOB
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(_visible(folder))):
            text = f"{folder} holds something else, expected a new folder"
            raise ConfigError("command line", "--output", text)
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(str(file), "is damaged, expected a new --output") from None
    now = json.loads(json.dumps(job))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            text = f"is of another job: {key} is {_short(before.get(key))} there, here "
            raise ConfigError(str(folder), f"{text}{_short(now.get(key))}; choose a new --output")


def _visible(folder: Path) -> Iterator[str]:
    return (name for name in os.listdir(folder) if not name.startswith("."))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _whole(folder: Path) -> bool:
    if not (folder / DATA / METADATA).is_file():
        return False
    dataset = Dataset(folder)
    if all((folder / DATA / shard.name).is_file() for shard in dataset.shards):
        dataset.check()
        return True
    (folder / DATA / METADATA).unlink()  # a damaged shard was deleted, to be made again
    return False


def make_shards(
    folder: Path,
    units: Sequence[Unit],
    make: Make,
    processes: int,
    noun: str,
) -> None:
    """Make the shards that are not there yet.

    Args:
        folder: of the dataset.
        units: all of them.
        make: makes one; called in other processes where there are several.
        processes: at a time.
        noun: what sizes count, for the lines of progress.

    Raises:
        Stopped: a signal asked to.
        ConfigError: as ``make`` does, or a process was killed.
    """
    missing = [u for u in units if not (folder / DATA / shard_name(u.number)).is_file()]
    asked = threading.Event()

    def stop(name: str) -> None:
        asked.set()
        print(f"{name}: finishing what is under way, then stopping. Again: at once.", flush=True)

    line = Lines(noun, sum(u.size for u in units), sum(u.size for u in units if u not in missing))
    with stop_signals(stop):
        if min(processes, len(missing)) <= 1:
            for unit in missing:
                if asked.is_set():
                    raise Stopped
                make(unit.what, folder / DATA / shard_name(unit.number))
                line.more(unit.size)
        else:
            _in_processes(folder, missing, make, processes, asked, line)
    if asked.is_set():
        raise Stopped


def _in_processes(
    folder: Path,
    units: Sequence[Unit],
    make: Make,
    processes: int,
    asked: threading.Event,
    line: Lines,
) -> None:
    # A process that is forked would share JAX's and torch's threads.
    pool = ProcessPoolExecutor(
        min(processes, len(units)),
        multiprocessing.get_context("spawn"),
        _begin_process,
        (os.getpid(),),
    )
    waiting: dict[Future[int], Unit] = {}
    try:
        for unit in units:
            path = folder / DATA / shard_name(unit.number)
            waiting[pool.submit(make, unit.what, path)] = unit
        while waiting:
            if asked.is_set():
                for future in [f for f in waiting if f.cancel()]:
                    del waiting[future]
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                unit = waiting.pop(future)
                future.result()
                line.more(unit.size)
    except BrokenProcessPool:
        text = "a process was killed (is there enough memory?); repeat the command with fewer"
        raise ConfigError(str(folder), f"{text} --processes") from None
    except BaseException:
        _end(pool)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool at once; their shards have no name yet."""
    for process in list((pool._processes or {}).values()):
        with suppress(OSError):
            process.terminate()


def _begin_process(parent: int) -> None:
    """A process that leaves signals to whoever began it, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Lines:
    """A line of progress for every unit: how far, how fast, how long yet."""

    def __init__(self, noun: str, of: int, before: int) -> None:
        self._noun, self._of, self._done, self._before = noun, of, before, before
        self._began = time.monotonic()
        if before:
            print(f"{before:,} of {of:,} {noun} are there", flush=True)

    def more(self, size: int) -> None:
        """Another unit is done."""
        self._done += size
        rate = (self._done - self._before) / max(time.monotonic() - self._began, 1e-9)
        left = int((self._of - self._done) / rate)
        share = 100 * self._done // self._of
        print(
            f"{self._done:,}/{self._of:,} {self._noun} ({share}%)  {rate:,.1f}/s  "
            f"ETA {left // 60}m{left % 60:02d}s",
            flush=True,
        )


def going_on(argv: Sequence[str]) -> str:
    """What to type to go on: the same command."""
    return shlex.join(["python", "-m", "booster_ray.data", *argv])


def stopped(argv: Sequence[str]) -> int:
    """Say how to go on; the exit code."""
    print(f"Stopped. Go on with:\n  {going_on(argv)}")
    sys.stdout.flush()
    return 130
