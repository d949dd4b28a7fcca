"""Killed anywhere and resumed, a run ends as one that was not: parameters, replay, next action.

Bit for bit, on the CPU. The slow tests kill real processes with SIGKILL, ten times each.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train.sharing import share_programs
from train.trees import CLOCKS, differing, leaves

from booster_ray.config import Config, load
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint.log import SEGMENTS
from booster_ray.store.files import read_progress
from booster_ray.train.run import Run

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
KILLS = 10
SEED = 20
COMMON = [
    "randomization.level=3",
    "rewards.height=1.0",
    "sac.critic_lr=3e-4",
    "evaluation.every=1_000_000",
    "world.episode_seconds=0.3",
]
WORLDS = {
    "native": [
        "world.num_envs=8",
        "training.env_steps=3840",
        "training.report_every=48",
        "checkpoint.every_env_steps=96",
        "sac.replay_size=600",  # wraps
        "sac.n_step=2",
    ],
    "mjx": [
        "world=mjx",
        "world.num_envs=6",
        "world.steps_per_dispatch=4",
        "training.env_steps=3600",
        "training.report_every=72",
        "checkpoint.every_env_steps=72",
        "sac.replay_size=600",
        "sac.n_step=2",
    ],
    "finetuning": [
        "stage=finetune",
        "world.num_envs=8",
        "training.env_steps=9600",
        "training.report_every=48",
        "checkpoint.every_env_steps=96",
        "rewards.official=2.0",
        "ddpg.critic_hidden=[32]",
        "ddpg.batch_size=32",
        "ddpg.replay_size=600",  # wraps
        "ddpg.learning_starts=64",
        "ddpg.critic_warmup=960",
        "ddpg.thawing=[{start: 0, layers: 1, lr: 1e-3}, {start: 3000, layers: null, lr: 1e-4}]",
        "ddpg.n_step=2",
        "ddpg.smoothness_penalty=1.0",
    ],
}

CHILD = """
import sys
from pathlib import Path
import numpy as np
from booster_ray.config import load
from booster_ray.train.run import Run


class Kept(Run):
    def _loop(self, tree):
        self.loop = super()._loop(tree)
        return self.loop


directory = Path(sys.argv[2])
run = Kept(load(sys.argv[1], sys.argv[3:]).base(), directory)
for metrics in run:
    print(int(metrics["env_steps"]), flush=True)
collector = run.loop.collector
collector = getattr(collector, "own", collector)
if hasattr(collector, "_observation"):
    action = collector._explore(run.loop._env_steps)
else:
    carry = collector._carry
    observation = collector._dynamics.observation(carry.worlds)
    _, action = collector._learner.act(carry.learner, observation)
np.save(directory / "action.npy", action)
"""


def start(directory: Path, overrides: list[str]) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # What XLA:CPU says of cached programs would fill the pipe, which nobody reads meanwhile.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-c", CHILD, str(DEBUG), str(directory), *overrides]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(directory: Path, overrides: list[str]) -> None:
    process = start(directory, overrides)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert "Warning" not in errors  # a kill tears nothing


def kill_at(env_steps: float, directory: Path, overrides: list[str], delay: float) -> int:
    """SIGKILL ``delay`` s after the report at or after ``env_steps``; returns the last report's."""
    process = start(directory, overrides)
    assert process.stdout is not None
    for line in process.stdout:  # MJX prints too, when it cannot find warp
        if line.strip().isdigit() and int(line) >= env_steps:
            break
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it had ended before it was killed"
    recorded = [int(r["env_steps"]) for r in read_progress(directory)]
    assert recorded == sorted(set(recorded))
    return recorded[-1]


def assert_same(directory: Path, reference: Path, env_steps: int) -> None:
    """Parameters, replay and all else that is saved, reports and the kept files."""
    name = f"step_{env_steps:012d}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine, theirs = (checkpoint.load(d / name)[0] for d in (directory, reference))
    assert differing(mine, theirs) == []
    assert any("replay" in path for path in leaves(theirs))
    one, other = (
        [{k: v for k, v in r.items() if k not in CLOCKS} for r in read_progress(d)]
        for d in (directory, reference)
    )
    assert one == other
    kept = [sorted(p.name for p in d.glob("*_0*")) for d in (directory, reference)]
    assert kept[0] == kept[1]
    assert not list(directory.glob(".*.tmp*"))
    assert not list((directory / SEGMENTS).glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORLDS)
def test_killed_ten_times_it_ends_the_same(kind: str, tmp_path: Path) -> None:
    overrides = [*COMMON, *WORLDS[kind]]
    steps = load(DEBUG, overrides).base().training.env_steps
    undisturbed, directory = tmp_path / "undisturbed", tmp_path / "killed"
    finish(undisturbed, overrides)
    moments = random.Random(SEED)
    reached = []
    for turn in range(KILLS):
        # Anywhere in a tenth of the run, and in training, recording, copying or writing.
        target = steps * (turn + moments.random()) / (KILLS + 2)
        reached.append(kill_at(target, directory, overrides, moments.uniform(0.0, 0.03)))
    print("killed at", reached)
    finish(directory, overrides)
    assert_same(directory, undisturbed, steps)
    one, other = (np.load(d / "action.npy") for d in (directory, undisturbed))
    np.testing.assert_array_equal(one, other)


# --- the same within a process, in seconds ---

QUICK = {
    "native": ["training.env_steps=240", "training.report_every=30", "sac.replay_size=128"],
    "device": [
        "world=brax:fast",
        "world.num_envs=4",
        "world.steps_per_dispatch=4",
        "training.env_steps=480",
        "training.report_every=48",
        "sac.replay_size=128",
        "sac.n_step=3",
    ],
}


def in_process(directory: Path, config: Config, reports: int | None = None) -> None:
    """To the end, or as far as ``reports`` take it; what it did since its checkpoint is lost."""
    run: Any = iter(Run(config, directory))
    for count, _ in enumerate(run):
        if count == reports:
            run.close()
            return


@pytest.mark.parametrize("kind", QUICK)
def test_cut_short_twice_it_ends_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_programs(monkeypatch)
    every = "checkpoint.every_env_steps=90"  # not at every report
    config = load(DEBUG, [*COMMON, *QUICK[kind], every]).base()
    undisturbed, directory = tmp_path / "undisturbed", tmp_path / "cut"
    in_process(undisturbed, config)
    in_process(directory, config, reports=4)
    in_process(directory, config, reports=2)
    in_process(directory, config)
    assert_same(directory, undisturbed, config.training.env_steps)
