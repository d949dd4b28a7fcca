"""The memory plan against what runs really take: both stages, several sizes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import driving
import pytest

from booster_ray.config import Config, load
from booster_ray.deploy.doctor.command import MEMORY, environment
from booster_ray.deploy.doctor.findings import run_check
from booster_ray.deploy.doctor.measure import as_measured, typical
from booster_ray.deploy.doctor.memory import (
    MB,
    METAWORLD,
    PROCESS,
    Measured,
    checkpoint_mb,
    plan_memory,
    sweep_mb,
)

FULL = (
    "training.env_steps=500_000", "training.report_every=50_000", "evaluation.every=1_000_000",
    "checkpoint.every_env_steps=200_000", "control.decimation=1", "world.num_envs=66",
)  # fmt: skip
"""Short control steps, so that a replay is full in a minute or two."""
CASES = {
    "small": (),
    "many randomized worlds": ("world.num_envs=99", "randomization.level=1"),
    "a large replay": (*FULL, "sac.replay_size=400_000", "sac.learning_starts=400_000"),
    "wide networks": (
        "sac.critic_hidden=[1024, 1024]", "sac.actor_hidden=[1024]", "sac.batch_size=2048",
        "sac.replay_size=4000", "world.num_envs=66", "training.env_steps=3000",
        "evaluation.every=3000", "training.report_every=500",
    ),
    "trackers": ("tracking.listeners=[wandb, mlflow]",),
    "finetuning": (
        "stage=finetune", "ddpg.replay_size=2048", "ddpg.critic_warmup=100",
        "ddpg.learning_starts=64",
    ),
    "finetuning with a large replay": (
        "stage=finetune", *FULL, "ddpg.replay_size=400_000", "ddpg.learning_starts=390_000",
        "ddpg.critic_warmup=0", "ddpg.batch_size=64",
    ),
}  # fmt: skip


def resolved(tmp_path: Path, overrides: tuple[str, ...]) -> Config:
    fixed = ("randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4")
    fixed += ("tracking.listeners=[]",)
    fixed += (f"storage={tmp_path}", f"runtime.compilation_cache={tmp_path / 'cache'}")
    return load("debug", [*fixed, *overrides]).base()


def peak(arguments: list[str], log: Path, stop: Path | None = None, at: int = 0) -> float:
    """MB: the most that the process of a run had in memory.

    Args:
        arguments: of ``train``.
        log: where its output goes.
        stop: the run's folder, where it is stopped when it has reported ``at`` env steps.
        at: see ``stop``.
    """
    with log.open("w") as stream:
        run = subprocess.Popen(
            driving.command(*arguments, module="train"),
            cwd=driving.ROOT, stdout=stream, stderr=stream,
        )  # fmt: skip
    most = 0
    try:
        while run.poll() is None:
            lines = Path(f"/proc/{run.pid}/status").read_text().splitlines()
            sizes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
            most = max([most, *sizes])
            if stop and reported(stop) >= at:
                run.send_signal(signal.SIGINT)
                stop = None
            time.sleep(0.05)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == (130 if at else 0), log.read_text()
    return most * 1024 / MB


def reported(run: Path) -> int:
    with suppress(FileNotFoundError):
        lines = (run / "progress.jsonl").read_text().splitlines(keepends=True)
        return max([0, *(json.loads(line)["env_steps"] for line in lines if line.endswith("\n"))])
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_plan_is_within_15_percent_of_the_peak(name: str, tmp_path: Path) -> None:
    """Of a fresh run that is stopped late, its replay full, and of the resumed one."""
    config = resolved(tmp_path, CASES[name])
    (finding,) = run_check(MEMORY, config, environment(config))
    plan = plan_memory(config, as_measured(finding), gpu=False)
    quick = plan_memory(config, typical(config), gpu=False).host
    file, run = tmp_path / "config.yaml", tmp_path / config.name
    file.write_text(config.to_yaml())
    late = config.training.env_steps - 2 * config.training.report_every
    fresh = peak([str(file)], tmp_path / "fresh", run, at=late)
    resume = ["--resume", config.name, "--storage", str(tmp_path)]
    resumed = peak(resume, tmp_path / "resumed")
    planned = plan.resumed  # on the same machine, where the first has compiled
    print(f"{name}: planned {plan.host:.0f} MB (quick: {quick:.0f}), used {fresh:.0f}; "
          f"resumed {planned:.0f}, used {resumed:.0f}")  # fmt: skip
    assert plan.host == pytest.approx(fresh, rel=0.15), (plan.parts, fresh)
    assert planned == pytest.approx(resumed, rel=0.15), (plan.parts, resumed)


def test_trials_that_have_ended_are_counted_without_their_replay() -> None:
    config = load("default", ["sac.replay_size=2_097_152"]).base()
    measured = typical(config)
    training = checkpoint_mb(config, measured)
    assert sweep_mb(config, measured, 1000, 1000) == pytest.approx(1000 * training)
    some = sweep_mb(config, measured, 1000, 8)
    assert some == pytest.approx(8 * training + 992 * 2 * measured.state)
    assert some < 0.1 * 1000 * training
    seeds = load("default", ["sac.replay_size=2_097_152", "tune.seeds=3"]).base()
    each = sweep_mb(seeds, measured, 1000, 8)
    assert each == pytest.approx(8 * training + 2992 * 2 * measured.state)
    for change in ("checkpoint.keep_replay=true", "tune.scheduler=pbt"):
        kept = load("default", ["sac.replay_size=2_097_152", change]).base()
        assert sweep_mb(kept, measured, 1000, 8) == pytest.approx(1000 * training)


def test_environments_of_meta_world_and_their_processes_are_planned() -> None:
    measured = Measured(100.0, 400.0, 100.0, 10.0, 20.0, observation=49, action=4)
    parts = {p.name: p for p in plan_memory(load("mt10").base(), measured, gpu=False).parts}
    # 20 environments to train in and 20 for an evaluation, each of both in two processes.
    assert parts["worlds"].host == parts["evaluation"].host == 20 * METAWORLD + 2 * PROCESS
    row = 4 * (2 * 49 + 4 + 3)
    assert parts["replay"].host == pytest.approx(2_000_000 * row / MB)
    here = load("mt10", ["world.processes=0"]).base()
    parts = {p.name: p for p in plan_memory(here, measured, gpu=False).parts}
    assert parts["worlds"].host == 10 * METAWORLD  # the first of each task is counted already
    large = plan_memory(load("mt10_aggressive").base(), measured, gpu=False)
    assert large.host > 10_000_000 * row / MB + 100 * METAWORLD
