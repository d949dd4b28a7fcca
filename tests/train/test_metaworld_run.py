"""Training on several tasks of Meta-World's: reports by task, and going on bit for bit."""

from __future__ import annotations

import signal
import subprocess
from copy import deepcopy
from pathlib import Path

import driving
import pytest
from train.trees import differing, numbers

pytest.importorskip("metaworld", reason="Meta-World is not installed (extra metaworld)")

from booster_ray.config import Config, load
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import Tree
from booster_ray.train.runner import Runner

TASKS = ("reach-v3", "door-open-v3", "window-close-v3")
SMALL = [
    f"world=metaworld:{','.join(TASKS)}", "world.num_envs=6", "world.processes=0",
    "sac.discount=0.97", "sac.critic_lr=3e-4", "sac.replay_size=1024", "storage=nowhere",
    "training.report_every=600", "evaluation.every=9_000_000",
]  # fmt: skip


def configured(*overrides: str) -> Config:
    return load("mt10_debug", [*SMALL, *overrides]).base()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of 40 steps."""
    monkeypatch.setattr("metaworld.sawyer_xyz_env.SawyerXYZEnv.max_path_length", 40)


def to_the_end(config: Config, restored: Tree | None = None) -> tuple[list[dict], Tree, Tree]:
    """Reports, the state at 600 env steps, and the last state."""
    training = Runner(config, restored)
    reports, kept, last = [], {}, {}
    for report in training:
        reports.append(numbers(report))
        kept = deepcopy(report.capture()) if report.metrics["env_steps"] == 600 else kept
        last = report.capture() if training.finished else {}
    training.close()
    return reports, kept, last


def test_a_run_reports_every_task_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = configured()
    reports, kept, end = to_the_end(config)
    assert [r["env_steps"] for r in reports] == [0, 600, 1200]
    last = reports[-1]
    for task in TASKS:
        assert last[f"episode_return/{task}"] > 0.0 <= last[f"episode_success/{task}"]
        assert last[f"score/{task}"] == last[f"success/{task}"] and last[f"return/{task}"] > 0.0
        assert last[f"survival/{task}"] == pytest.approx(40 * 0.0125)
    assert last["score"] == last["success"]
    assert last["score"] == pytest.approx(sum(last[f"score/{task}"] for task in TASKS) / 3)
    checkpoint.save(tmp_path / "saved", kept)
    tree, _ = checkpoint.load(tmp_path / "saved")
    again, _, same_end = to_the_end(config, tree)
    assert again == reports[2:]
    assert differing(end, same_end) == []


def test_batches_have_every_task_alike() -> None:
    training = Runner(configured("training.env_steps=120"))
    for _ in training:
        pass
    import numpy as np

    batch = training.collector.learner.replay.sample((4, 30), np.random.default_rng(0))
    shares = batch.observation[..., 39:].sum(axis=1)
    assert shares.tolist() == [[10.0, 10.0, 10.0]] * 4
    training.close()


@pytest.mark.slow
def test_a_killed_run_in_processes_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL takes the processes of the environments with it; their number may change."""
    wanted = [
        "mt10_debug", *SMALL, f"storage={tmp_path}", "tracking.listeners=[]",
        "training.env_steps=2400", "checkpoint.every_env_steps=600", "evaluation.every=2400",
    ]  # fmt: skip
    wanted.remove("world.processes=0")
    whole = driving.run(*wanted, "name=whole", "world.processes=2", module="train")
    assert whole[0] == 0, whole[1]
    command = driving.command(*wanted, "name=killed", "world.processes=2", module="train")
    run = subprocess.Popen(command, cwd=driving.ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("1,200/"):
            break
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    resumed = driving.run("--resume", "killed", f"storage={tmp_path}", module="train")
    assert resumed[0] == 0, resumed[1]
    assert "begin anew" not in resumed[1]
    one, other = (
        checkpoint.load(tmp_path / name / f"step_{2400:012d}")[0] for name in ("whole", "killed")
    )
    assert differing(one, other) == []
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
