"""The ledger of attempts: two writers, two copies, nothing lost, nothing counted twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from booster_ray.config import Config, load
from booster_ray.store import folder
from booster_ray.store.attempts import (
    Attempt,
    add_attempt,
    attempt_ended,
    merge_attempts,
    new_attempt,
    read_attempts,
    share_attempts,
)
from booster_ray.store.failure import forget_failure, record_failure
from booster_ray.store.files import ATTEMPTS, PROGRESS, RECORDS
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.retry import Retries

OLD: list[dict[str, object]] = [
    {"how": "error", "env_steps": 7, "text": "ValueError: x", "seconds": None, "when": "2026-01-01"}
]


def hows(directory: Path) -> list[str]:
    return [one["how"] for one in read_attempts(directory)]


def test_the_order_is_that_of_the_attempts(tmp_path: Path) -> None:
    for how in ("died", "error"):
        add_attempt(tmp_path, new_attempt(tmp_path), how, how)
    late = (tmp_path / ATTEMPTS).read_text()
    (tmp_path / ATTEMPTS).write_text("\n".join(reversed(late.splitlines())) + "\n")
    assert hows(tmp_path) == ["died", "error"]


def test_what_an_attempt_says_of_itself_counts_before_a_judgement(tmp_path: Path) -> None:
    attempt = new_attempt(tmp_path)
    assert attempt_ended(tmp_path, attempt) is None
    add_attempt(tmp_path, attempt, "died", "the trial's process died")
    add_attempt(tmp_path, attempt, "preempted", "SIGTERM", 0.5)
    add_attempt(tmp_path, attempt, "died", "the trial's process died")
    assert [(one["how"], one["seconds"]) for one in read_attempts(tmp_path)] == [("preempted", 0.5)]


def test_an_earlier_release_is_read_and_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "attempts.json").write_text(json.dumps(OLD))
    assert hows(tmp_path) == ["error"]
    attempt = new_attempt(tmp_path)
    add_attempt(tmp_path, attempt, "died", "")
    assert hows(tmp_path) == ["error", "died"] and attempt.startswith("0002-")


@pytest.mark.parametrize("rest", [b'{"id": "0001-aa", "how": "pre', b"\xff\xfe\n", b"[]\n"])
def test_a_line_cut_short_costs_no_other(tmp_path: Path, rest: bytes) -> None:
    add_attempt(tmp_path, "0001-a", "error", "x")
    with (tmp_path / ATTEMPTS).open("ab") as stream:
        stream.write(rest)
    add_attempt(tmp_path, "0002-b", "died", "y")
    assert hows(tmp_path) == ["error", "died"]


def append(directory: Path, writer: int) -> None:
    for n in range(50):
        add_attempt(directory, f"{n:04d}-{writer}", "died", "x" * 300)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append, args=(tmp_path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read_attempts(tmp_path)) == 150


def test_copies_merge_whatever_each_has(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    add_attempt(one, "0001-a", "preempted", "SIGTERM", 0.1)
    add_attempt(two, "0002-b", "error", "x")
    for _ in range(2):
        merge_attempts(one, (two / ATTEMPTS).read_text() + '{"half')
        merge_attempts(two, (one / ATTEMPTS).read_text())
    assert hows(one) == hows(two) == ["preempted", "error"]
    assert len((one / ATTEMPTS).read_text().splitlines()) == 2


class Machine:
    """A disk of its own; the storage is everyone's."""

    def __init__(self, scratch: Path, config: Config) -> None:
        self._scratch = scratch
        self.enter()
        self.root = folder.storage_path(config.storage) / config.name
        self.trial = self.root / "trials" / "0000"
        self.trial.mkdir(parents=True)

    def enter(self) -> None:
        os.environ["TMPDIR"] = str(self._scratch)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # and back at the end
    return load("debug", [f"storage=memory://{tmp_path.name}"]).base()


def trial(config: Config, there: Machine, attempt: str, at: int, error: Exception | None) -> None:
    """An attempt on another machine: without an error it makes way for a notice."""
    forget_failure(there.trial)
    (there.trial / PROGRESS).write_text(json.dumps({"env_steps": at}) + "\n")
    share_attempts(config, there.trial)
    if error:
        record_failure(there.trial, error)
    else:
        add_attempt(there.trial, attempt, "preempted", "SIGTERM", 0.5)
        share_attempts(config, there.trial)
    for name in RECORDS:  # as its mirror does
        if (there.trial / name).exists():
            folder.publish(config, there.trial / name)


def test_a_preemption_does_not_make_retries_endless(config: Config, tmp_path: Path) -> None:
    """The driver's judgements and the trial's own words are on two copies."""
    driver, worker = (Machine(tmp_path / name, config) for name in "ab")
    mirror, retries = SweepMirror(config, driver.root), Retries(driver.root, max_failures=2)
    waits = []
    for n in range(4):
        mirror.share_attempts(driver.trial)
        attempt = retries.begin(0)
        trial(config, worker, attempt, 100 + n, ValueError("x") if n else None)
        mirror.collect(driver.trial)
        waits.append(retries.judge(0).wait)
        mirror.share_attempts(driver.trial)
    assert waits == [0, 0, 0, None]
    assert hows(driver.trial) == ["preempted", "error", "error", "error"]
    # The next driver has another disk, and counts on.
    third = Machine(tmp_path / "c", config)
    SweepMirror(config, third.root).share_attempts(third.trial)
    assert hows(third.trial) == hows(driver.trial)


def test_a_driver_elsewhere_reads_an_earlier_release(config: Config, tmp_path: Path) -> None:
    one, two = (Machine(tmp_path / name, config) for name in "ab")
    (one.trial / "attempts.json").write_text(json.dumps(OLD))
    folder.publish(config, one.trial / "attempts.json")
    share_attempts(config, two.trial)
    found: Attempt = read_attempts(two.trial)[0]
    assert found["text"] == "ValueError: x"
