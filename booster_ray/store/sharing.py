"""A sweep on remote storage: what is its own goes there, what trials elsewhere did comes back.

Runs copy their checkpoints and records themselves, see :mod:`booster_ray.store.mirror`. With
local or shared storage there is nothing to do, and nothing is done.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from booster_ray.config import Config, Sweep, load
from booster_ray.store.attempts import ATTEMPTS, last_env_steps
from booster_ray.store.failure import FILES
from booster_ray.store.files import (
    CONFIG,
    PROGRESS,
    ROBUSTNESS,
    SPENT,
    STOP_FILE,
    STUDY,
    SWEEP,
    SYSTEM,
)
from booster_ray.store.folder import mirror_of, storage_path
from booster_ray.store.identity import RUN_ID
from booster_ray.store.last_words import NOTES
from booster_ray.store.mirror import Mirror

POLL_SECONDS = 5.0
"""How late a trial on another machine may see that the sweep stops."""
RESULTS = ("leaderboard.md", "leaderboard.json", "report.html", "best/scores.json")


class SweepMirror:
    """The driver's side.

    Args:
        config: any of the sweep's configs.
        root: the sweep's folder on this machine.

    Raises:
        StorageError: here and from every method, when the storage cannot be used.
    """

    def __init__(self, config: Config, root: Path) -> None:
        self._config, self.root = config, root
        self._mirror = mirror_of(config, root)

    def fetch(self) -> None:
        """On a machine that has not driven the sweep: what is known of it."""
        for name in (STUDY, SPENT, RUN_ID):
            if self._mirror and not (self.root / name).exists():
                self._mirror.pull_file(name, self.root / name)

    def share(self) -> None:
        """The study and what is spent, as they are now."""
        if self._mirror is None:
            return
        if (self.root / STUDY).exists():  # else it is in a database that all can reach
            self._mirror.push_database(self.root / STUDY)
        if (self.root / SPENT).exists():
            self._mirror.push_file(self.root / SPENT)

    def share_results(self) -> None:
        """What the sweep's end has written."""
        for name in RESULTS if self._mirror else ():
            if self._mirror and (self.root / name).exists():
                self._mirror.push_file(self.root / name, name)

    def stop(self, wanted: bool) -> None:
        """Have trials on other machines stop, or forget an earlier wish."""
        if self._mirror is None:
            return
        if wanted:
            self._mirror.push_file(self.root / STOP_FILE)
        else:
            self._mirror.folder.remove(STOP_FILE)

    def collect(self, directory: Path) -> None:
        """The records of a trial whose attempt has ended, if they say more than what is here."""
        mirror = mirror_of(self._config, directory) if self._mirror else None
        if mirror is None:
            return
        with TemporaryDirectory(dir=self.root) as folder:
            scratch = Path(folder)
            notes = [name for name in mirror.folder.names() if fnmatch(name, NOTES)]
            names = (CONFIG, RUN_ID, PROGRESS, SYSTEM, *FILES, ATTEMPTS, ROBUSTNESS, *notes)
            found = {name for name in names if mirror.pull_file(name, scratch / name)}
            if last_env_steps(scratch) < last_env_steps(directory):
                return  # it was made on this machine, and cut short before it was copied
            directory.mkdir(parents=True, exist_ok=True)
            for name in names:
                if name in found:
                    (scratch / name).replace(directory / name)
                elif name in FILES:
                    (directory / name).unlink(missing_ok=True)

    def fetch_run(self, directory: Path) -> None:
        """The checkpoints of a trial that was made elsewhere."""
        if self._mirror and (mirror := mirror_of(self._config, directory)):
            mirror.pull(directory)


def sweep_on_this_machine(config: dict[str, Any]) -> tuple[Sweep, Path]:
    """In a trial: the sweep and its folder here, fetched if need be; then its stop is watched for.

    ``config``: the sweep's ``root`` on the driver's machine, ``storage`` and ``name``.
    """
    root = Path(config["root"])
    mirror = _remote(config["storage"], config["name"])
    if mirror is not None:
        root = storage_path(config["storage"]) / config["name"]
        mirror.pull_file(SWEEP, root / SWEEP)
        if mirror.folder.read(STOP_FILE) is None:
            (root / STOP_FILE).unlink(missing_ok=True)  # of a stop before the last resume
        threading.Thread(target=_watch, args=(mirror, root / STOP_FILE), daemon=True).start()
    return load(root / SWEEP), root


def _remote(storage: str, name: str) -> Mirror | None:
    return mirror_of(Config(name=name, storage=storage), storage_path(storage) / name)


def _watch(mirror: Mirror, stop_file: Path) -> None:
    while not threading.Event().wait(POLL_SECONDS):
        with suppress(OSError):
            if not stop_file.exists():
                mirror.pull_file(STOP_FILE, stop_file)
