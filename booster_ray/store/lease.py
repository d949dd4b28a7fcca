"""Who may write: a run or sweep has one owner at a time, whichever machine that is on.

A lease is a chain of small files below the folder that it guards, ``.lease/ROLE-EPOCH.json``,
each made once by conditional create and never changed: whoever makes the next one is the owner, and
all before are not, from that moment on. The owner beats (``ROLE-EPOCH.beat``), so that others know
whether it lives. An owner that was cut off learns at its next :meth:`Lease.check` that it is none
any more (fencing tokens: Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from booster_ray.store.remote import StorageError

FOLDER = ".lease"
BEAT_SECONDS = 20.0
SILENT_SECONDS = 90.0
"""An owner that has not beaten for so long is taken for dead."""
LONG_SILENT_SECONDS = 900.0
"""A beat as old as that needs no watching: clocks do not differ so much."""
WATCH_SECONDS = 1.0
KEPT = 3
"""Files of so many epochs stay, to be read by people."""


class Place(Protocol):
    """A folder, of a disk or remote."""

    url: str

    def create(self, name: str, data: bytes) -> bool:
        """Whether the file was not there, and is now."""

    def write(self, name: str, data: bytes) -> None:
        """In the place of what is there."""

    def read(self, name: str) -> bytes | None:
        """None: it is not there."""

    def names(self, name: str = "") -> Collection[str]:
        """What a folder holds."""

    def remove(self, name: str) -> None:
        """Nothing if it is not there."""


class LeaseLost(StorageError):
    """Somebody else owns the folder now: nothing more may be written to it."""


class LeaseHeld(StorageError):
    """Somebody else owns the folder, and lives."""


@dataclass(frozen=True)
class Owner:
    """Who made a lease."""

    epoch: int
    host: str
    pid: int
    since: str
    """Local time there."""
    token: str
    """Of this lease alone."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Lease:
    """One owner's; made by :func:`take`."""

    def __init__(self, place: Place, role: str, owner: Owner) -> None:
        self.place, self.role, self.owner = place, role, owner
        self.lost: LeaseLost | None = None
        """What a check has found."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def epoch(self) -> int:
        """Counts the owners of the folder, from 1."""
        return self.owner.epoch

    def check(self) -> None:
        """See that this is still the owner's.

        Raises:
            LeaseLost: it is another's.
            OSError: the storage cannot be read.
        """
        newest = _newest(self.place, self.role)
        if newest > self.epoch:
            other = read_owner(self.place, self.role, newest)
            text = f"{self.place.url} is in the hands of {other or 'another process'} now"
            self.lost = LeaseLost(f"{text}; this process ({self.owner.pid}) stops")
            raise self.lost

    def check_known(self) -> None:
        """See that no check has found another owner yet; asks nobody. Raises LeaseLost."""
        if self.lost is not None:
            raise self.lost

    def beat(self, *, released: bool = False) -> None:
        """Say that the owner lives, or that it has ended. Raises OSError."""
        said = {"at": time.time(), "released": released}
        self.place.write(_file(self.role, self.epoch, "beat"), json.dumps(said).encode())

    def keep(self) -> None:
        """Beat now, and beat and check on a thread until :meth:`release`. Raises OSError.

        A storage that is away later is waited for.
        """
        self.beat()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                self.check()
                self.beat()
            if self.lost is not None:
                return

    def release(self) -> None:
        """Give it up, if it is still this owner's; where storage is away it runs out by itself."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        with suppress(OSError):
            if _newest(self.place, self.role) == self.epoch:  # nor was the folder given back
                self.beat(released=True)


def take(
    place: Place,
    role: str,
    *,
    over: bool = False,
    token: str = "",
    dead: Callable[[Owner], bool] = lambda owner: False,
    say: Callable[[str], object] = lambda line: None,
) -> Lease:
    """Become the owner of a folder.

    Args:
        place: the folder.
        role: a folder may have several leases: ``driver`` and ``writer``.
        over: also from an owner that lives.
        token: of an earlier lease of this machine's that no other process of it can still hold:
            where no other came after it, it goes on.
        dead: whether an owner is known to be gone though it has not said so.
        say: told in one line what is waited for: an owner that was heard of a short time ago may
            live, so its beats are watched for ``SILENT_SECONDS``.

    Raises:
        LeaseHeld: the owner lives; the line says who it is.
        OSError: the storage cannot be used.
    """
    while True:
        newest = _newest(place, role)
        before = read_owner(place, role, newest)
        if token and before and (before.token, before.host) == (token, socket.gethostname()):
            return Lease(place, role, before)
        if newest and not over:
            _wait_for_end(place, role, newest, dead, say)
        owner = Owner(
            newest + 1, socket.gethostname(), os.getpid(),
            time.strftime("%Y-%m-%d %H:%M:%S %Z"), secrets.token_hex(8),
        )  # fmt: skip
        about = {"host": owner.host, "pid": owner.pid, "since": owner.since, "token": owner.token}
        made = place.create(_file(role, owner.epoch, "json"), json.dumps(about).encode())
        # Read again: storage without conditional puts may have let another's replace it.
        if made and read_owner(place, role, owner.epoch) == owner:
            lease = Lease(place, role, owner)
            _forget_old(place, role, owner.epoch)
            return lease
        # Another was quicker: it is the one to ask now.


def read_owner(place: Place, role: str, epoch: int | None = None) -> Owner | None:
    """Who made a lease, the newest where no epoch is given; None: nobody, or it cannot be read."""
    epoch = _newest(place, role) if epoch is None else epoch
    found = _json(place, _file(role, epoch, "json"))
    try:
        return Owner(
            epoch, str(found["host"]), int(found["pid"]), str(found["since"]), str(found["token"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def _wait_for_end(
    place: Place,
    role: str,
    epoch: int,
    dead: Callable[[Owner], bool],
    say: Callable[[str], object],
) -> None:
    """Return when an owner has ended or is silent for too long; raise LeaseHeld when it beats."""
    owner = read_owner(place, role, epoch)
    beat = _json(place, _file(role, epoch, "beat"))
    age = time.time() - float(beat.get("at", 0.0))
    if beat.get("released") or age > LONG_SILENT_SECONDS or (owner and dead(owner)):
        return
    told, began = False, time.monotonic()
    # Clocks differ: however old its last beat looks, the next is waited for.
    watch = max(SILENT_SECONDS - max(age, 0.0), 1.5 * BEAT_SECONDS)
    while time.monotonic() - began < watch:
        if _newest(place, role) != epoch:
            return
        now = _json(place, _file(role, epoch, "beat"))
        if now.get("released"):
            return
        if now != beat:
            raise LeaseHeld(f"{place.url} is driven by {owner or 'another process'}, which lives")
        if not told:
            say(f"{place.url} was driven by {owner}, {age:.0f} s ago: waiting whether it still is.")
            told = True
        time.sleep(WATCH_SECONDS)


def _newest(place: Place, role: str) -> int:
    """The epoch of the newest lease, 0 for none."""
    pattern = re.compile(re.escape(role) + r"-(\d+)\.json")
    found = (pattern.fullmatch(name) for name in place.names(FOLDER))
    return max((int(match[1]) for match in found if match), default=0)


def _forget_old(place: Place, role: str, epoch: int) -> None:
    pattern = re.compile(re.escape(role) + r"-(\d+)\.(json|beat)")
    with suppress(OSError):
        for name in list(place.names(FOLDER)):
            if (match := pattern.fullmatch(name)) and int(match[1]) <= epoch - KEPT:
                place.remove(f"{FOLDER}/{name}")


def _file(role: str, epoch: int, suffix: str) -> str:
    return f"{FOLDER}/{role}-{epoch:06d}.{suffix}"


def _json(place: Place, name: str) -> dict[str, Any]:
    """What a small file says; nothing where it is not there, or only half."""
    try:
        found = json.loads(place.read(name) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
