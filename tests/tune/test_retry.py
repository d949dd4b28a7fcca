"""Which attempts are counted, and when a trial is given up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from booster_ray.store.attempts import add_attempt, read_attempts
from booster_ray.store.failure import meaningful, record_failure, storing
from booster_ray.store.files import ERROR, PROGRESS
from booster_ray.tune.retry import Retries, RetryDecision, reason


def attempt(
    retries: Retries,
    root: Path,
    error: str | Exception | None = None,
    at: int = 100,
    notice: bool = False,
) -> RetryDecision:
    """One attempt at trial 0 that ends after ``at`` env steps; a text is an older release's."""
    directory = root / "trials" / "0000"
    begun = retries.begin(0)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROGRESS).write_text(json.dumps({"env_steps": at}) + "\n")
    if isinstance(error, Exception):
        record_failure(directory, error)
    elif error:
        (directory / ERROR).write_text(error)
    if notice:
        add_attempt(directory, begun, "preempted", "SIGTERM", 0.5)
    return retries.judge(0)


def test_an_error_is_retried_as_often_as_configured_wherever_it_strikes(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=2)
    waits = [attempt(retries, tmp_path, f"ValueError: {at}", at).wait for at in (1, 2, 3)]
    assert waits == [0, 0, None]


def test_the_same_error_at_the_same_step_ends_a_trial_however_many_retries_it_has(
    tmp_path: Path,
) -> None:
    retries = Retries(tmp_path, max_failures=100)
    texts = [f"TrainingDiverged: loss is {x}" for x in (1, 2, 3)]
    assert [attempt(retries, tmp_path, t).wait for t in texts] == [0, 0, None]


def test_the_count_survives_the_driver(tmp_path: Path) -> None:
    waits = [attempt(Retries(tmp_path, 1), tmp_path, "ValueError: x", at).wait for at in (1, 2)]
    assert waits == [0, None]


def of_storage(error: OSError) -> Exception:
    """What a run raises when its storage raises ``error``."""
    with pytest.raises(OSError) as caught, storing():
        raise error
    return caught.value


FULL = of_storage(OSError(28, "No space left on device"))


@pytest.mark.parametrize("error", [None, FULL])
def test_lost_processes_and_storage_do_not_count_while_the_trial_goes_on(
    tmp_path: Path, error: Exception | None
) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path, error, at) for at in range(30)]
    assert {verdict.wait for verdict in verdicts} == {0}


def test_a_notice_heeded_in_time_never_counts(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path, notice=True) for _ in range(30)]
    assert {verdict.wait for verdict in verdicts} == {0}
    assert {a["how"] for a in read_attempts(tmp_path / "trials" / "0000")} == {"preempted"}


def test_a_process_that_dies_again_and_again_at_one_step_is_given_up(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path) for _ in range(5)]
    assert [v.wait for v in verdicts] == [0, 1, 2, 4, None] and not verdicts[-1].storage
    error = (tmp_path / "trials" / "0000" / ERROR).read_text()
    assert error == "the trial's process died 5 times after 100 env steps"


def test_a_stall_counts_like_a_death_and_both_together(tmp_path: Path) -> None:
    retries, directory = Retries(tmp_path, max_failures=0), tmp_path / "trials" / "0000"
    directory.mkdir(parents=True)
    (directory / PROGRESS).write_text(json.dumps({"env_steps": 100}) + "\n")
    waits = []
    for how in ("stalled", "died", "stalled", "died", "stalled"):
        begun = retries.begin(0)
        if how == "stalled":
            add_attempt(
                directory, begun, how, "the trial's process stalled: no progress, in x.py:3"
            )
        waits.append(retries.judge(0).wait)
    assert waits == [0, 1, 2, 4, None]
    assert [a["how"] for a in read_attempts(directory)][:3] == ["stalled", "died", "stalled"]
    told = "the trial's process stalled 5 times after 100 env steps: no progress, in x.py:3"
    assert (directory / ERROR).read_text() == told


def test_storage_that_stays_away_is_not_the_trials_fault(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    verdicts = [attempt(retries, tmp_path, FULL) for _ in range(10)]
    assert [v.wait for v in verdicts] == [0, 1, 2, 4, 8, 16, 32, 60, 60, None]
    assert verdicts[-1].storage and "No space left" in verdicts[-1].text


class StorageError(OSError):
    """A user's own class, whatever it is called."""


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file", "map.png"), StorageError("x"), "FileNotFoundError: x"],
)
def test_what_a_run_raises_itself_is_not_its_storages_fault(
    tmp_path: Path, error: str | Exception
) -> None:
    retries = Retries(tmp_path, max_failures=1)
    verdicts = [attempt(retries, tmp_path, error) for _ in range(2)]
    assert [v.wait for v in verdicts] == [0, None] and not verdicts[-1].storage


def test_an_old_error_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    retries = Retries(tmp_path, max_failures=0)
    directory = tmp_path / "trials" / "0000"
    directory.mkdir(parents=True)
    (directory / ERROR).write_text("ValueError: of yesterday")
    assert attempt(retries, tmp_path).wait == 0
    assert [a["how"] for a in read_attempts(directory)] == ["died"]


# --- last words ---

DYING = """
import os, sys
from pathlib import Path
from booster_ray.config import load
from booster_ray.store.failure import note_stderr
print("of an earlier attempt", file=sys.stderr, flush=True)
note_stderr(load("debug").base(), Path(sys.argv[1]), "trial")
import ctypes, faulthandler
faulthandler.enable()
print("world.c:12: step: Assertion `n > 0' failed.", file=sys.stderr, flush=True)
os.abort()
"""


def test_what_a_dying_process_said_is_told(tmp_path: Path) -> None:
    directory, log = tmp_path / "trials" / "0000", tmp_path / "worker.err"
    retries = Retries(tmp_path, max_failures=0)
    verdicts = []
    for _ in range(5):
        retries.begin(0)
        with log.open("a") as stream:  # a worker's, which many processes may write to
            done = subprocess.run([sys.executable, "-c", DYING, str(directory)], stderr=stream)
        assert done.returncode == -6
        verdicts.append(retries.judge(0))
    said = "world.c:12: step: Assertion `n > 0' failed.; Fatal Python error: Aborted"
    assert [a["text"] for a in read_attempts(directory)] == [
        f"the trial's process died: {said}"
    ] * 5
    assert [v.wait for v in verdicts] == [0, 1, 2, 4, None]
    told = f"the trial's process died 5 times after 0 env steps: {said}"
    assert (directory / ERROR).read_text() == told


HOLDING = """
import ctypes, faulthandler, sys
from pathlib import Path
from booster_ray.config import load
from booster_ray.store.failure import note_stderr
note_stderr(load("debug").base(), Path(sys.argv[1]), "trial")
faulthandler.dump_traceback_later(0.2, exit=True, file=2)
ctypes.PyDLL(None).sleep(60)
"""


def test_what_only_faulthandler_could_end_has_stalled_too(tmp_path: Path) -> None:
    directory, log = tmp_path / "trials" / "0000", tmp_path / "worker.err"
    retries = Retries(tmp_path, max_failures=0)
    retries.begin(0)
    with log.open("a") as stream:
        done = subprocess.run([sys.executable, "-c", HOLDING, str(directory)], stderr=stream)
    assert done.returncode == 1 and retries.judge(0).wait == 0
    (attempt,) = read_attempts(directory)
    assert attempt["how"] == "stalled" and "held Python's lock" in attempt["text"]
    assert 'File "<string>", line 8 in <module>' in (directory / "stall.txt").read_text()


RAY = """:job_id:01000000
:actor_name:TrialProcess
Reporting training result 1: TrainingReport(checkpoint=None, metrics={'env_steps': 120})
terminate called after throwing an instance of 'std::bad_alloc'
  what():  std::bad_alloc
*** SIGABRT received at time=1 on cpu 1 ***
PC: @     0x7f12e20a8eec  (unknown)  (unknown)
    @     0x7f12e205a050  105486096  (unknown)
[2026-11-27 11:41:15,920 E 7343 7343] logging.cc:474: *** SIGABRT received at time=1 on cpu 1 ***
Fatal Python error: Aborted

Stack (most recent call first):
  File "x.py", line 11 in die

Extension modules: msgpack._cmsgpack (total: 18)
"""


def test_stacks_and_marks_are_no_last_words() -> None:
    assert meaningful(RAY) == (
        "terminate called after throwing an instance of 'std::bad_alloc'; "
        "what():  std::bad_alloc; Fatal Python error: Aborted"
    )
    assert meaningful("") == meaningful(":job_id:01\n") == ""
    assert len(meaningful("x" * 10_000)) < 300


def test_rays_reason_is_told_without_its_guesses() -> None:
    told = (
        "Failure # 1\nThe actor died unexpectedly.\n\tclass_name: A\nThe actor is dead because its "
        "worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
        "unexpectedly exits with a connection error code 2. End of file. Some common causes include"
    )
    assert reason(told) == (
        "Worker unexpectedly exits with a connection error code 2. End of file."
    )
    short = "Task was killed due to the node running low on memory.\nMemory on the node was 31 GB."
    assert reason(short).startswith("Task was killed due to the node running low on memory")
    assert reason("") == ""
