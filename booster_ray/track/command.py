"""``python -m booster_ray.track NAME``: tell the trackers what they have not got yet.

While a sweep or run goes on, the same program stands beside it (``--follow``) and tells them as
reports come, until its standard input ends: with the sweep, or with its process.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import select
import signal
import sys
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from booster_ray.config import Config, ConfigError
from booster_ray.config.tracking import without_passwords
from booster_ray.store.lock import holder, locked, try_lock

if TYPE_CHECKING:
    from booster_ray.track.uploader import Uploader

DESCRIPTION = "Tell the trackers of a sweep or run all that they have not got yet."
LOCK = ".tracking.lock"
CONSOLE = "console"
WAIT_SECONDS = 0.5


def main(argv: list[str]) -> int:
    """Exit code 0: everything was told; 1: something was not; 2: bad input."""
    p = argparse.ArgumentParser(prog="python -m booster_ray.track", description=DESCRIPTION)
    p.add_argument("name", metavar="NAME", help="of the sweep or run")
    p.add_argument("--storage", default="results", help="folder of the runs")
    p.add_argument("--follow", action="store_true", help="go on until standard input ends")
    args = p.parse_args(argv)
    if args.follow:
        return _follow(args.name, args.storage)
    config, root = _opened(args.name, args.storage)
    lock = try_lock(root / LOCK)
    if lock is None:
        raise ConfigError(str(root), f"is being tracked by {holder(root / LOCK)}")
    with lock:
        return _send(config, root)


def _opened(name: str, storage: str) -> tuple[Config, Path]:
    """The config and folder of a sweep, or else of a run by itself."""
    from booster_ray.config.errors import choices, hint
    from booster_ray.store.files import CONFIG, RUN_ID, SWEEP
    from booster_ray.store.folder import reopen, storage_path

    for marker in (SWEEP, CONFIG):
        with suppress(ConfigError):
            sweep, root = reopen(name, storage, marker)
            return sweep.base(), root.absolute()
    names = sorted(path.parent.name for path in storage_path(storage).glob(f"*/{RUN_ID}"))
    known = f"expected {choices(names)}{hint(name, names)}" if names else "there are no runs"
    raise ConfigError("command line", "NAME", f"no run '{name}' in {storage}, {known}")


def _send(config: Config, root: Path) -> int:
    """All that is left, however long it takes."""
    from booster_ray.store.sweep_mirror import collect

    collect(config, root)
    uploaders = _uploaders(config, root)
    for uploader in uploaders:
        uploader.close()
        uploader.start()
    for uploader in uploaders:
        uploader.join()
    return _part(uploaders, config, root)


def _follow(name: str, storage: str) -> int:
    """Beside a sweep or run, with what its processes leave of the CPU."""
    from booster_ray.store.files import CONFIG, SWEEP
    from booster_ray.store.sweep_mirror import keep_collecting
    from booster_ray.track.films import Films
    from booster_ray.track.uploader import wait_for

    os.setpriority(os.PRIO_PROCESS, 0, 19)
    # It ends when its parent says so or is gone, not before with the signals that both get.
    for received in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(received, signal.SIG_IGN)
    logging.basicConfig(handlers=[_quiet_about_logins()])
    held = ExitStack()  # to the end of the process; the one before may still be closing
    held.enter_context(locked(Path(storage) / name / LOCK, math.inf))
    while not any((Path(storage) / name / marker).is_file() for marker in (SWEEP, CONFIG)):
        if select.select([sys.stdin], [], [], WAIT_SECONDS)[0]:
            return 0  # nothing has begun
    config, root = _opened(name, storage)
    keep_collecting(config, root)
    uploaders = _uploaders(config, root)
    for uploader in uploaders:
        uploader.start()
    films = Films(config, root, _say)
    films.start()
    end = sys.stdin.readline().strip()  # nothing at all: the parent was killed
    films.close()
    for uploader in uploaders:
        uploader.close()
    wait_for(uploaders, float(end) if end else config.tracking.close_seconds)
    _part(uploaders, config, root)
    os._exit(0)  # a thread may hang for good


def _uploaders(config: Config, root: Path) -> list[Uploader]:
    from booster_ray.track.sink import make_sink
    from booster_ray.track.tracked_runs import TrackedFolder
    from booster_ray.track.uploader import Uploader

    names = [n for n in config.tracking.listeners
             if n != "wandb" or config.tracking.wandb.mode != "disabled"]  # fmt: skip
    make, board = partial(make_sink, config=config, root=root, say=_say), TrackedFolder(root)
    return [Uploader(name, partial(make, name), board, _say) for name in (CONSOLE, *names)]


def _part(uploaders: list[Uploader], config: Config, root: Path) -> int:
    """Say what is where, and what is not."""
    from booster_ray.track.where import later_command

    missing = []
    for uploader in uploaders:
        if uploader.name == CONSOLE:
            continue
        ended = uploader.join(0)
        if left := uploader.left():
            missing.append(f"{uploader.name} has not got {left} reports yet")
        elif not ended or uploader.failed:
            missing.append(f"{uploader.name} has not been told how all runs ended")
        elif line := uploader.farewell():
            _say(line)
    if missing:
        _say(f"{'; '.join(missing)}. Later:\n  {later_command(config, root)}")
    return 1 if missing else 0


def _say(line: str) -> None:
    with suppress(OSError):  # who would show it may be gone
        print(without_passwords(line), flush=True)


def _quiet_about_logins() -> logging.Handler:
    """Logs to standard error; what trackers raise may name their address with its login."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return without_passwords(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(name)s: %(message)s"))
    return handler
