"""Drivers and attempts that crash, are cut off and come back late: nothing that counts is lost."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from store.ring import Ring, expected
from store.schedules import Bucket, Turns

from booster_ray.store import durable, mirror
from booster_ray.store.checkpoint import load_newest, log, store
from booster_ray.store.checkpoint.history import prune
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.checkpoint.store import segments, stage, write
from booster_ray.store.lease import LeaseLost, take
from booster_ray.store.mirror import EPOCH, Mirror, token_in, write_epoch
from booster_ray.tune.ledger import Ledger, Spec, Verdict

MACHINES = st.sampled_from(["one", "two", "three", "driver a", "driver b"])
SAVES, KEEP = 3, 2
TRIALS = 3


class Serially:
    """In the place of a pool, whose threads would not wait for their turn."""

    def __init__(self, *args: Any) -> None: ...

    def __enter__(self) -> Serially:
        return self

    def __exit__(self, *args: Any) -> None: ...

    def map(self, call: Callable[[str], str], names: Iterable[str]) -> Iterable[str]:
        return [call(name) for name in names]


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power cuts."""
    monkeypatch.setattr(mirror, "ThreadPoolExecutor", Serially)
    for module in (store, log, durable):
        monkeypatch.setattr(module.os, "fsync", lambda descriptor: None)


def recoverable(files: dict[str, bytes]) -> list[int]:
    """What a fresh machine would go on from: the epochs in which each of its saves was made."""
    epochs: dict[int, list[str]] = {}
    for path in files:
        parts = path.split("/")
        if len(parts) == 4 and EPOCH.fullmatch(parts[1]) and parts[3] == "manifest.json":
            epochs.setdefault(int(parts[1][1:]), []).append(parts[2])
    for epoch in sorted(epochs, reverse=True):
        home = f"run/e{epoch:06d}"
        if whole := [n for n in epochs[epoch] if _whole(files, home, n)]:
            newest = max(whole, key=lambda name: int(name[5:]))
            return list(json.loads(files[f"{home}/{newest}/manifest.json"])["metadata"]["saves"])
    return []


def _whole(files: dict[str, bytes], home: str, name: str) -> bool:
    manifest = json.loads(files[f"{home}/{name}/manifest.json"])
    listed = [s["file"] for leaf in manifest["leaves"].values() for s in leaf.get("segments", [])]
    needed = [f"{home}/{name}/arrays.bin", *(f"{home}/{SEGMENTS}/{file}" for file in listed)]
    return all(path in files for path in needed)


class Fleet(RuleBasedStateMachine):
    """Two drivers of a sweep, and three attempts at a run; any may believe that it is the one."""

    def __init__(self) -> None:
        super().__init__()
        shared = Path("/dev/shm")
        self.scratch = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
        self.turns, self.files = Turns(), dict[str, bytes]()
        self.bucket = Bucket(self.turns, self.files, "run")
        self.acknowledged: list[int] = []
        """Saves behind the newest checkpoint that its writer was sure of."""
        self.settled: dict[str, bytes] = {}
        """Files of the ledger, as they were first seen."""
        self.told: dict[tuple[str, int], set[str]] = {}
        """What drivers took for settled: a spec or verdict, by its trial."""

    def attempt(self, machine: str) -> None:
        directory = self.scratch / machine
        directory.mkdir(exist_ok=True)
        with suppress(LeaseLost):
            lease = take(self.bucket, "writer", over=True, token=token_in(directory))
            copy = Mirror(self.bucket, ("progress.jsonl",), lease)  # type: ignore[arg-type]
            copy.pull(directory)
            write_epoch(directory, lease.epoch, lease.owner.token)
            found = load_newest(directory)
            ring = Ring(found[0]["added"] if found else 0)
            saves = found[1]["saves"] if found else []
            written = segments(found[2]) if found else {}
            for _ in range(SAVES):
                ring.added += 4
                (directory / "progress.jsonl").write_text(f"{ring.added}\n")
                path = directory / f"step_{ring.added}"
                shutil.rmtree(path, ignore_errors=True)
                saves = [*saves, lease.epoch]
                write(path, stage(ring.tree(), {"saves": saves}, written))
                written = segments(path)
                prune(directory, KEEP)
                copy.push(directory)
                self.acknowledged = saves

    def drive(self, machine: str) -> None:
        """Settle with what trials are run, and how they ended, each in this driver's own way."""
        directory = self.scratch / machine
        directory.mkdir(exist_ok=True)
        sweep = self.bucket.below("sweep")
        with suppress(LeaseLost):
            lease = take(sweep, "driver", over=True)
            ledger = Ledger(directory, sweep, lease.check)  # type: ignore[arg-type]
            ledger.read()
            for number in range(TRIALS):
                spec = ledger.enter(Spec(number, {"by": lease.epoch}))
                self.told.setdefault(("spec", number), set()).add(str(spec))
            for number in range(TRIALS):
                verdict = ledger.close(number, Verdict("COMPLETE", [float(lease.epoch)]))
                self.told.setdefault(("verdict", number), set()).add(str(verdict))

    @rule(machine=MACHINES, calls=st.sampled_from([1, 2, 5, 12, 30, 70]))
    def go_on(self, machine: str, calls: int) -> None:
        if machine not in self.turns.alive():
            body = self.drive if machine.startswith("driver") else self.attempt
            self.turns.start(machine, lambda: body(machine))
        for _ in range(calls):
            self.turns.step(machine)
            self.nothing_is_lost()

    @rule(machine=MACHINES)
    def crash(self, machine: str) -> None:
        self.turns.step(machine, crash=True)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert not self.turns.errors, self.turns.errors
        assert recoverable(self.files)[: len(self.acknowledged)] == self.acknowledged
        for name, content in self.files.items():
            if name.startswith("run/sweep/trials/"):
                assert self.settled.setdefault(name, content) == content, "settled anew"
        assert self.settled.keys() <= self.files.keys(), "a verdict was lost"
        assert all(len(told) == 1 for told in self.told.values()), "told twice"

    def teardown(self) -> None:
        try:
            for machine in self.turns.alive():
                self.turns.step(machine, crash=True)
            fresh = self.scratch / "fresh"
            fresh.mkdir()
            Mirror(self.bucket).pull(fresh)  # type: ignore[arg-type]
            found = load_newest(fresh)
            saves = found[1]["saves"] if found else []
            assert saves[: len(self.acknowledged)] == self.acknowledged
            if found:
                added = found[0]["added"]
                np.testing.assert_array_equal(found[0]["log"], expected(max(0, added - 10), added))
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)


FEW = settings(
    max_examples=60, stateful_step_count=20, deadline=None, derandomize=True,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate],  # to shrink takes minutes
)  # fmt: skip
TestAFewSchedules = Fleet.TestCase
TestAFewSchedules.settings = FEW


@pytest.mark.slow
class TestTwoThousandSchedules(Fleet.TestCase):  # type: ignore[misc, name-defined]
    """As many as the property was asked to hold for."""

    settings = settings(FEW, max_examples=2000, derandomize=False)
