"""Relative paths and files mean the folder where the command was typed, in Ray's workers too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import driving
import pytest

from booster_ray.config import load
from booster_ray.store.files import CONFIG, ERROR, read_progress
from booster_ray.store.folder import work_in

ENVIRONMENT = """
from pathlib import Path

import gymnasium as gym
import numpy as np


class Mapped(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self):
        self.gain = float(Path("assets/gain.txt").read_text())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        Path("assets/gain.txt").read_text()
        reward = self.gain - float(np.square(action).sum())
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), reward, False, False, {}


gym.register("Mapped-v0", Mapped, max_episode_steps=20)
"""
SMALL = (
    "world={kind: 'gym:mapped_here:Mapped-v0', num_envs: 2}", "storage=runs",
    "tracking.listeners=[]", "randomization.level=0", "rewards.height=1.0", "tune.trials=1",
    "training.env_steps=200", "training.report_every=100", "evaluation.every=200",
    "checkpoint.every_env_steps=100", "tune.scheduler=none", "tune.max_failures=0",
)  # fmt: skip
FINETUNED = (
    "stage=finetune", "start_from=runs/pre", "ddpg.critic_hidden=[8]", "ddpg.batch_size=32",
    "ddpg.learning_starts=64", "ddpg.critic_warmup=50",
)  # fmt: skip


def typed(here: Path, module: str, *args: str) -> str:
    """Run a command from ``here``; its output."""
    done = subprocess.run(
        [sys.executable, "-m", f"booster_ray.{module}", *args, *SMALL],
        cwd=here, capture_output=True, text=True, timeout=600,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_sweep_finds_what_lies_where_it_was_typed(tmp_path: Path) -> None:
    """An environment's own file, and a relative `start_from`: in a trial, and under Ray Train."""
    (tmp_path / "mapped_here.py").write_text(ENVIRONMENT)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "gain.txt").write_text("2.0")
    debug = str(driving.ROOT / "tune_configs/debug.yaml")
    typed(tmp_path, "train", debug, "name=pre", "sac.critic_lr=3e-4")
    for workers in (0, 1):
        name = f"fine{workers}"
        typed(tmp_path, "tune", debug, f"name={name}", f"trainer.workers={workers}", *FINETUNED)
        trial = tmp_path / "runs" / name / "trials" / "0000"
        assert not (trial / ERROR).exists()
        reports = read_progress(trial)
        assert reports[-1]["env_steps"] >= 200 and "actor_loss" in reports[-1]
        assert load(trial / CONFIG).base().start_from == str(tmp_path / "runs" / "pre")
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()} - {"__pycache__"}
    assert left == {"assets", "runs"}


def test_a_worker_goes_where_the_command_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    work_in(str(tmp_path / "nowhere"))  # on another machine: it stays
    assert Path.cwd() == tmp_path
    work_in(str(tmp_path / "here"))
    assert Path.cwd() == tmp_path / "here"
