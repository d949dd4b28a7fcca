"""The main job end to end, on a real Ray cluster with a real Optuna study."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import driving
import optuna
import pytest
from optuna.trial import TrialState
from train.trees import CLOCKS

from booster_ray.store import checkpoint
from booster_ray.store.attempts import read_attempts
from booster_ray.store.database import sqlite_url

LONGER = ("training.env_steps=9000", "training.report_every=300", "evaluation.every=4500",
          "checkpoint.every_env_steps=300", "tune.scheduler=none")  # fmt: skip
"""Long enough to be killed in the middle."""
LIMP = "control.kp=[20, 20, 20, 20, 10, 10]"
"""No policy stands on such legs, so that the episodes of every evaluation are short."""


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


@pytest.fixture(scope="module")
def debug(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    storage = tmp_path_factory.mktemp("storage")
    code, output = driving.run("debug", f"storage={storage}", LIMP, "tune.max_concurrent=1")
    assert code == 0, output
    return storage / "debug", output


def test_debug_sweep_ends_with_leaderboard_report_and_best(debug: tuple[Path, str]) -> None:
    sweep, output = debug
    board = json.loads((sweep / "leaderboard.json").read_text())
    assert len(board) == 2
    assert "Leaderboard" in output and "untrained" in output.lower()
    scores = json.loads((sweep / "best" / "scores.json").read_text())
    assert set(scores["tasks"]) == {"goalie", "obstacle", "kick_to_target"}
    tree, metadata = checkpoint.load(sweep / "best" / "checkpoint", keys=["learner"])
    assert tree["learner"] and metadata["score"] == max(row["score"] for row in board)
    assert "<html" in (sweep / "report.html").read_text()


def test_study_holds_the_official_score_of_each_trial(debug: tuple[Path, str]) -> None:
    sweep, _ = debug
    trials = driving.study(sweep)
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 2
    for trial in trials:
        recorded = [m["score"] for m in driving.progress(sweep, trial.number) if "score" in m]
        assert trial.value == max(recorded)
        assert set(trial.params) == {"randomization.level", "rewards.height", "sac.critic_lr"}


def test_a_process_that_has_ended_a_trial_serves_the_next(debug: tuple[Path, str]) -> None:
    """And the next learns in it what it learns in a process of its own: nothing is left over."""
    sweep, _ = debug
    notes = [json.loads(p.read_text()) for p in sorted(sweep.glob("trials/*/stderr-trial.json"))]
    assert len({note["path"] for note in notes}) == 1 and len(notes) == 2
    alone = sweep.parent / "alone"
    config = sweep / "trials/0001/config.yaml"
    code, output = driving.run(str(config), f"storage={alone}", "name=again", module="train")
    assert code == 0, output

    def told(file: Path) -> list[dict[str, float]]:
        reports = map(json.loads, file.read_text().splitlines())
        return [{k: v for k, v in report.items() if k not in CLOCKS} for report in reports]

    found = told(sweep / "trials/0001/progress.jsonl")
    assert found == told(alone / "again/progress.jsonl") and found[-1]["env_steps"] == 600


def test_a_name_is_never_overwritten(debug: tuple[Path, str]) -> None:
    sweep, _ = debug
    before = {p: p.stat().st_mtime_ns for p in sweep.rglob("*") if p.is_file()}
    done = driving.inside("debug", f"storage={sweep.parent}")
    assert done.returncode == 2 and done.stdout == ""
    assert "--resume debug" in done.stderr and done.stderr.count("\n") == 1
    assert before == {p: p.stat().st_mtime_ns for p in sweep.rglob("*") if p.is_file()}


def test_resuming_a_finished_sweep_runs_nothing_again(debug: tuple[Path, str]) -> None:
    sweep, _ = debug
    before = [path.read_bytes() for path in sorted(sweep.glob("trials/*/progress.jsonl"))]
    code, output = driving.run("--resume", "debug", "--storage", str(sweep.parent))
    assert code == 0 and "Leaderboard" in output
    assert before == [p.read_bytes() for p in sorted(sweep.glob("trials/*/progress.jsonl"))]


@pytest.mark.slow
def test_kill_of_driver_and_all_children_then_resume(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    process = driving.start(
        "debug", f"storage={tmp_path}", *LONGER, "tune.trials=4", "tune.max_concurrent=2"
    )
    # In the middle: one of the first two has finished, a later one is under way.
    driving.wait_for(
        lambda: (
            any(_done(sweep, n) for n in (0, 1))
            and any(driving.checkpoints(sweep, n) for n in (2, 3))
        )
    )
    driving.kill_all(process.pid)
    process.communicate()
    before = driving.study(sweep)
    finished = [t.number for t in before if t.state.is_finished()]
    stepped = {n: driving.checkpoints(sweep, n) for n in range(4) if n not in finished}
    frozen = {n: (sweep / f"trials/{n:04d}/progress.jsonl").read_bytes() for n in finished}

    code, output = driving.run("--resume", "debug", "--storage", str(tmp_path))
    assert code == 0, output
    after = driving.study(sweep)
    assert [t.number for t in after] == [0, 1, 2, 3]
    assert all(t.state == TrialState.COMPLETE for t in after)
    assert [t.params for t in after[: len(before)]] == [t.params for t in before]
    for number, content in frozen.items():
        assert (sweep / f"trials/{number:04d}/progress.jsonl").read_bytes() == content
    for number in range(4):
        steps = [m["env_steps"] for m in driving.progress(sweep, number)]
        assert steps == sorted(set(steps)) and steps[-1] == 9000
    resumed = [n for n, paths in stepped.items() if paths]
    assert resumed, "nothing was under way at the kill"
    for number in resumed:
        # Reports up to the checkpoint were kept, not made again: wall time never went back.
        walls = [m["wall_seconds"] for m in driving.progress(sweep, number)]
        assert walls == sorted(walls)


def _done(sweep: Path, number: int) -> bool:
    return any(m["env_steps"] == 9000 for m in driving.progress(sweep, number))


@pytest.mark.slow
def test_kill_of_one_trial_goes_on_from_its_checkpoint_by_itself(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    process = driving.start(
        "debug", f"storage={tmp_path}", *LONGER, "tune.trials=1", "tune.max_concurrent=1"
    )
    driving.wait_for(lambda: len(driving.checkpoints(sweep, 0)) >= 2)
    (victim,) = driving.trial_processes(process.pid)
    victim.kill()
    killed_at = driving.progress(sweep, 0)
    code, output = driving.finish(process)
    assert code == 0, output
    reports = driving.progress(sweep, 0)
    steps = [m["env_steps"] for m in reports]
    assert steps == sorted(set(steps)) and steps[-1] == 9000
    # What was before the newest checkpoint is the very same record, not a second run of it.
    assert len(killed_at) >= 3 and reports[:2] == killed_at[:2]
    assert driving.study(sweep)[0].state == TrialState.COMPLETE


@pytest.mark.slow
def test_ctrl_c_saves_and_prints_the_command_that_resumes(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    process = driving.start(
        "debug", f"storage={tmp_path}", *LONGER, "checkpoint.every_env_steps=100000"
    )
    driving.wait_for(lambda: len(driving.progress(sweep, 0)) >= 3)
    process.send_signal(signal.SIGINT)
    code, output = driving.finish(process, timeout=60)
    assert code == 130, output
    assert f"python -m booster_ray.tune --resume debug --storage {tmp_path}" in output
    assert "Traceback" not in output
    saved = driving.checkpoints(sweep, 0)
    assert saved, "the interrupt saved nothing"
    code, output = driving.run("--resume", "debug", "--storage", str(tmp_path))
    assert code == 0, output
    assert driving.progress(sweep, 0)[-1]["env_steps"] == 9000


@pytest.mark.slow
def test_a_stop_file_made_by_hand_leaves_trials_unfinished_and_enqueued_ones_run(
    tmp_path: Path,
) -> None:
    sweep = tmp_path / "debug"
    process = driving.start(
        "debug", f"storage={tmp_path}", *driving.QUICK, "tune.trials=2", "tune.max_concurrent=1",
        "tune.scheduler=none", "training.env_steps=12000", "training.report_every=1000",
        "sac.replay_size=16000", "sac.learning_starts=16000",
        "sac.critic_lr={search: uniform, low: 1.0e-4, high: 1.0e-3}",
    )  # fmt: skip
    driving.wait_for(lambda: len(driving.progress(sweep, 0)) >= 2)
    study = optuna.load_study(study_name="debug", storage=sqlite_url(sweep / "study.db"))
    study.enqueue_trial({"sac.critic_lr": 5e-4})
    (sweep / "stop-requested").touch()
    code, output = driving.finish(process, timeout=120)
    assert code == 130, output
    assert f"python -m booster_ray.tune --resume debug --storage {tmp_path}" in output
    assert [t.state for t in driving.study(sweep)] == [TrialState.RUNNING, TrialState.WAITING]
    assert driving.checkpoints(sweep, 0) and not list(sweep.glob("trials/*/verdict.json"))
    code, output = driving.run("--resume", "debug", "--storage", str(tmp_path))
    assert code == 0, output
    assert [t.state for t in driving.study(sweep)] == [TrialState.COMPLETE] * 2
    assert driving.study(sweep)[1].params["sac.critic_lr"] == 5e-4


@pytest.mark.slow
def test_the_same_trial_under_a_ray_train_worker(tmp_path: Path) -> None:
    """JaxTrainer binding: same run directory, same numbers as in the trial's own process."""
    common = ("tune.trials=1", "tune.scheduler=none", f"storage={tmp_path}")
    code, output = driving.run("debug", "name=worker", "trainer.workers=1", *common, timeout=400)
    assert code == 0, output
    code, output = driving.run("debug", "name=inline", *common)
    assert code == 0, output
    inline, worker = (driving.progress(tmp_path / name, 0) for name in ("inline", "worker"))
    assert [_without(m, CLOCKS) for m in inline] == [_without(m, CLOCKS) for m in worker]


def _without(report: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {k: v for k, v in report.items() if k not in names}


@pytest.mark.slow
def test_a_trial_that_always_fails_is_marked_and_the_sweep_goes_on(tmp_path: Path) -> None:
    # The learning rate makes the losses infinite in every attempt.
    code, output = driving.run(
        "debug", f"storage={tmp_path}", "tune.trials=2", "tune.max_failures=1",
        "sac.critic_lr={search: choice, values: [0.9, 0.8]}",
        "rewards.alive=1.0e+38",
    )  # fmt: skip
    assert code == 1, output
    assert "error: all 2 trials failed: trial 0000" in output and "best policy" not in output
    assert [t.state for t in driving.study(tmp_path / "debug")] == [TrialState.FAIL] * 2
    board = json.loads((tmp_path / "debug" / "leaderboard.json").read_text())
    assert all("TrainingDiverged" in row["error"] for row in board)


@pytest.mark.slow
def test_a_sigterm_of_one_trial_loses_no_step(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    process = driving.start(
        "debug", f"storage={tmp_path}", *LONGER, "tune.trials=1", "tune.max_failures=0",
        "checkpoint.every_env_steps=100000",
    )  # fmt: skip
    driving.wait_for(lambda: len(driving.progress(sweep, 0)) >= 3)
    (victim,) = driving.trial_processes(process.pid)
    known = driving.progress(sweep, 0)
    victim.terminate()
    code, output = driving.finish(process)
    assert code == 0, output
    (attempt,) = read_attempts(sweep / "trials" / "0000")
    print(f"saved {attempt['seconds']} s after the SIGTERM")
    assert attempt["how"] == "preempted" and attempt["text"] == "SIGTERM"
    # What the trial had told before it still stands, and nothing of it was made again.
    reports = driving.progress(sweep, 0)
    assert reports[: len(known)] == known
    assert attempt["env_steps"] >= known[-1]["env_steps"]
    assert attempt["env_steps"] in [m["env_steps"] for m in reports]
    assert driving.study(sweep)[0].state == TrialState.COMPLETE


@pytest.mark.slow
def test_kill_of_the_driver_alone_then_resume(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    process = driving.start("debug", f"storage={tmp_path}", *LONGER, "tune.trials=2")
    driving.wait_for(lambda: driving.checkpoints(sweep, 0))
    process.kill()
    process.communicate()
    code, output = driving.run("--resume", "debug", "--storage", str(tmp_path))
    assert code == 0, output
    assert [t.state for t in driving.study(sweep)] == [TrialState.COMPLETE] * 2
    for number in range(2):
        steps = [m["env_steps"] for m in driving.progress(sweep, number)]
        assert steps == sorted(set(steps)) and steps[-1] == 9000


@pytest.mark.slow
def test_a_spent_budget_saves_stops_and_can_be_raised(tmp_path: Path) -> None:
    sweep = tmp_path / "debug"
    code, output = driving.run(
        "debug", f"storage={tmp_path}", *LONGER, "tune.max_hours=0.003",
        "training.env_steps=900000", "checkpoint.every_env_steps=900000",
    )  # fmt: skip
    assert code == 130, output
    assert "tune.max_hours: 0.00" in output and "--resume debug" in output
    assert driving.checkpoints(sweep, 0), "the trials did not save"
    again = ("--resume", "debug", "--storage", str(tmp_path))
    code, output = driving.run(*again)
    assert code == 130 and "are spent" in output, output
    process = driving.start(*again, "tune.max_hours=9")
    before = len(driving.progress(sweep, 0))
    driving.wait_for(lambda: len(driving.progress(sweep, 0)) > before)
    process.send_signal(signal.SIGTERM)
    code, output = driving.finish(process)
    assert code == 130 and "are spent" not in output, output


@pytest.mark.slow
def test_a_trial_moves_to_a_ray_train_worker_and_survives_there(tmp_path: Path) -> None:
    """Begun in its own process, resumed in a worker that is killed, and its driver after it."""
    common = ("debug", f"storage={tmp_path}", *LONGER, "tune.trials=1", "tune.sampler=random")
    code, output = driving.run(*common, "name=calm")
    assert code == 0, output
    sweep = tmp_path / "moved"
    process = driving.start(*common, "name=moved")
    driving.wait_for(lambda: driving.checkpoints(sweep, 0))
    process.send_signal(signal.SIGINT)
    code, output = driving.finish(process)
    assert code == 130, output
    process = driving.start("--resume", "moved", "--storage", str(tmp_path), "trainer.workers=1")
    for name in ("RayTrainWorker", "TrialProcess"):
        reached = driving.progress(sweep, 0)[-1]["env_steps"]
        driving.wait_for(
            lambda reached=reached: driving.progress(sweep, 0)[-1]["env_steps"] > reached + 600
        )
        driving.named(process.pid, name)[0].kill()
    code, output = driving.finish(process, timeout=900)
    assert code == 0, output
    calm, moved = (driving.progress(tmp_path / name, 0) for name in ("calm", "moved"))
    # A stop reports once more, out of turn; all that is in turn is the same.
    turns = {m["env_steps"] for m in calm}
    assert [_without(m, CLOCKS) for m in calm] == [
        _without(m, CLOCKS) for m in moved if m["env_steps"] in turns
    ]
