"""Sweeps and runs whose trials fail: who is blamed, what is said, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from optuna.trial import TrialState

from booster_ray.store.attempts import read_attempts
from booster_ray.store.failure import read_failure

TESTS = Path(__file__).parents[1]
SMALL = (
    "world.num_envs=3", "training.env_steps=600", "training.report_every=60",
    "evaluation.every=300", "checkpoint.every_env_steps=60",
    "sac.replay_size=256", "sac.critic_lr=3e-4", "randomization.level=0", "rewards.height=1.0",
)  # fmt: skip
SWEPT = ("sac.actor_lr={search: loguniform, low: 1e-4, high: 1e-3}", "tune.scheduler=none")
RAISED = "OSError: [Errno 5] Input/output error: '/mnt/maps/field.png' (failing_env.py:"


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


def world(name: str) -> str:
    return f"world.kind=gym:tune.failing_env:failing/{name}-v0"


def run(*args: str, module: str = "tune", **environment: str) -> tuple[int, str]:
    process = driving.start(*args, module=module, PYTHONPATH=str(TESTS), **environment)
    return driving.finish(process, timeout=300)


def test_a_run_that_fails_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    code, output = run(
        "debug", f"storage={tmp_path}", "name=one", world("Disk"), *SMALL, module="train"
    )
    last = output.splitlines()[-1]
    assert code == 1 and "Traceback" not in output, output
    assert last.startswith("error: ") and RAISED in last
    assert last.endswith(f"its traceback is in {tmp_path}/one/traceback.txt")
    assert "in fail\n" in (tmp_path / "one" / "traceback.txt").read_text()
    assert output.count("error") == 2  # and "Input/output error"


def test_every_trial_fails(tmp_path: Path) -> None:
    # By the way: in a folder whose name SQLite's URLs must quote, and a TMPDIR that is too long.
    storage = tmp_path / "what?"
    scratch = tmp_path / ("x" * 60)
    scratch.mkdir()
    code, output = run(
        "debug", f"storage={storage}", world("Disk"), *SMALL, *SWEPT,
        "tune.trials=2", "tune.max_failures=0", TMPDIR=str(scratch),
    )  # fmt: skip
    sweep = storage / "debug"
    assert code == 1 and "Traceback" not in output, output
    said = output.splitlines()[-1]
    assert said.startswith("error: all 2 trials failed: trial 0000: ") and RAISED in said, output
    assert said.endswith(f"see {sweep}/trials/0000")
    assert "best policy" not in output and "cannot use its storage" not in output
    assert not (sweep / "best").exists() and (sweep / "study.db").is_file()
    for number in range(2):
        directory = sweep / "trials" / f"{number:04d}"
        assert [a["how"] for a in read_attempts(directory)] == ["error"]
        assert "in fail\n" in (directory / "traceback.txt").read_text()
    board = json.loads((sweep / "leaderboard.json").read_text())
    assert [row["status"] for row in board] == ["ERROR"] * 2
    assert all(RAISED in row["error"] for row in board)
    assert [t.state for t in driving.study(sweep)] == [TrialState.FAIL] * 2
    assert [p.name for p in tmp_path.iterdir() if p != scratch] == [storage.name]


@pytest.mark.slow
def test_some_trials_fail(tmp_path: Path) -> None:
    code, output = run(
        "debug", f"storage={tmp_path}", world("Disk"), *SMALL, *SWEPT,
        "tune.trials=3", "tune.max_failures=0", SOUND_TRIAL=str(tmp_path / "sound"),
    )  # fmt: skip
    assert code == 0, output
    assert "Leaderboard, best policy and report" in output
    last = output.splitlines()[-1]
    assert last.startswith("warning: 2 of 3 trials failed: trial 000") and RAISED in last


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_trial_that_hangs_is_ended_and_made_again(tmp_path: Path, workers: int) -> None:
    code, output = run(
        "debug", f"storage={tmp_path}", world("Hang"), *SMALL, *SWEPT, "tune.trials=1",
        f"trainer.workers={workers}", "trainer.stall_minutes=0.25", "tune.max_failures=0",
        SOUND_TRIAL=str(tmp_path / "hung"),
    )  # fmt: skip
    assert code == 0, output
    directory = tmp_path / "debug" / "trials" / "0000"
    attempt = read_attempts(directory)[0]  # a busy machine may stall once more
    assert attempt["how"] == "stalled" and attempt["env_steps"] > 0
    assert attempt["text"].startswith("the trial's process stalled: no progress for 0.25 minutes")
    assert "in failing_env.py:" in attempt["text"]
    assert 'failing_env.py", line' in (directory / "stall.txt").read_text()
    board = json.loads((tmp_path / "debug" / "leaderboard.json").read_text())
    assert [row["status"] for row in board] == ["TERMINATED"]


def test_a_run_that_hangs_ends_and_says_where(tmp_path: Path) -> None:
    hung = {"SOUND_TRIAL": str(tmp_path / "hung")}
    config = ("debug", f"storage={tmp_path}", "name=one", world("Hang"), *SMALL)
    code, output = run(*config, "trainer.stall_minutes=0.25", module="train", **hung)
    assert code == 1 and "no progress for 15 s, in failing_env.py:" in output, output
    code, output = run("--resume", "one", "--storage", str(tmp_path), module="train", **hung)
    assert code == 0, output
    assert [a["how"] for a in read_attempts(tmp_path / "one")] == ["stalled"]


@pytest.mark.slow
def test_a_fatal_line_of_a_dying_worker_is_told(tmp_path: Path) -> None:
    code, output = run(
        "debug", f"storage={tmp_path}", world("Abort"), *SMALL, *SWEPT, "tune.trials=1",
        "checkpoint.every_env_steps=6000",
    )  # fmt: skip
    assert code == 1, output
    last = output.splitlines()[-1]
    words = "solver.c:7: solve: Assertion `n > 0' failed.; Fatal Python error: Aborted"
    died = f"the trial's process died 5 times after 60 env steps: {words}"
    assert last.startswith(f"error: all 1 trial failed: trial 0000: {died}"), output
    directory = tmp_path / "debug" / "trials" / "0000"
    attempts = read_attempts(directory)
    assert [a["how"] for a in attempts] == ["died"] * 5
    assert all(words in a["text"] for a in attempts)
    assert words in json.loads((tmp_path / "debug" / "leaderboard.json").read_text())[0]["error"]


@pytest.mark.slow
def test_a_fatal_line_of_a_dying_train_worker_is_told(tmp_path: Path) -> None:
    code, output = run(
        "debug", f"storage={tmp_path}", "name=one", world("Abort"), *SMALL,
        "trainer.workers=1", "tune.max_failures=1", "checkpoint.every_env_steps=6000",
        module="train",
    )  # fmt: skip
    assert code == 1 and "Traceback" not in output, output
    words = "solver.c:7: solve: Assertion `n > 0' failed.; Fatal Python error: Aborted"
    assert (
        f"A worker was lost: going on from the last checkpoint with new ones. It said last: {words}"
        in output
    )
    found = read_failure(tmp_path / "one")
    assert found is not None and found.how == "died"
    assert found.text == f"WorkerDied: a worker's process died: {words}"
    assert output.splitlines()[-1].startswith(f"error: {found.text}; its traceback is in ")
