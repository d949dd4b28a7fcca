"""Two Ray Train workers finetune one policy, and outlive the loss of one of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import driving
import numpy as np
import psutil
import pytest
from ray.exceptions import ActorDiedError
from ray.train import TrainingFailedError
from ray.train.v2.api.exceptions import WorkerGroupError
from two_nodes import free_port

from booster_ray.config import ConfigError, load
from booster_ray.rl.ddpg.team import TeamLost
from booster_ray.store import checkpoint
from booster_ray.store.failure import record_failure
from booster_ray.store.files import read_progress
from booster_ray.train.ray_train import worker_lost

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
SETTINGS = [
    "name=team",
    "stage=finetune",
    "randomization.level=0",
    "rewards={height: 1.0, official: 1.0}",
    "sac.critic_lr=3e-4",
    "trainer.workers=2",
    "world.num_envs=12",
    "training={env_steps: 9600, report_every: 600}",
    "evaluation.every=4800",
    "checkpoint.every_env_steps=1200",
    "ddpg.critic_hidden=[16]",
    "ddpg.batch_size=32",
    "ddpg.replay_size=2400",
    "ddpg.learning_starts=120",
    "ddpg.critic_warmup=600",
    "ddpg.thawing=[{start: 0, layers: 1, lr: 1e-3}, {start: 600, layers: null, lr: 1e-4}]",
]


def members(pid: int) -> list[psutil.Process]:
    """The processes of Ray Train's workers, below the command."""
    return driving.named(pid, "RayTrainWorker")


@pytest.mark.slow
def test_two_workers_outlive_the_loss_of_one(tmp_path: Path) -> None:
    process = driving.start("debug", f"storage={tmp_path}", *SETTINGS, module="train")
    run = tmp_path / "team"
    driving.wait_for(lambda: list(run.glob("step_*")))
    found = members(process.pid)
    assert len(found) == 2, [p.cmdline() for p in found]
    found[-1].kill()
    code, output = driving.finish(process)
    assert code == 0, output
    assert "A worker was lost: going on from the last checkpoint" in output
    assert "Finished" in output
    # Nothing is recorded twice, and nothing is missing.
    assert [m["env_steps"] for m in read_progress(run)] == list(range(0, 9601, 600))
    tree, _ = checkpoint.load(run / "step_000000009600")
    assert tree["team"].keys() == {"0", "1"}
    worlds = [tree["team"][rank]["observation"] for rank in ("0", "1")]
    assert worlds[0].shape == (6, 89) and not np.array_equal(*worlds)
    assert tree["learner"]["updates"] > 1000
    best, _ = checkpoint.load(max(run.glob("best_*")))
    assert best.keys() == {"learner"}


def test_what_counts_as_a_lost_worker(tmp_path: Path) -> None:
    class Wrapped(Exception):
        health_check_failure = ActorDiedError()

    def group(*failures: Exception) -> WorkerGroupError:
        return WorkerGroupError("failed", dict(enumerate(failures)))

    assert worker_lost(group(ActorDiedError()), tmp_path)
    assert worker_lost(group(ValueError("x"), Wrapped("poll failed")), tmp_path)
    assert not worker_lost(group(ValueError("a loss is NaN")), tmp_path)
    assert not worker_lost(TrainingFailedError("no worker at all"), tmp_path)
    # Words say nothing: a user's own server may close its connections too.
    severed = ConnectionResetError("Connection reset by peer")
    record_failure(tmp_path / "own", severed)
    assert not worker_lost(group(severed), tmp_path / "own")
    record_failure(tmp_path / "team", TeamLost("[gloo/transport/tcp/pair.cc] Connection closed"))
    assert worker_lost(group(ValueError("severed")), tmp_path / "team")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stage=pretrain"], "workers 2 with stage pretrain, expected 0 or 1"),
        (["world.num_envs=15"], "num_envs 15 does not divide among 2 workers"),
        (["world.num_envs=4"], "num_envs 4 does not divide among 2 workers with a world for each"),
        (["ddpg.batch_size=33"], "batch_size 33 does not divide among 2 workers"),
    ],
)
def test_what_workers_cannot_share_is_refused(overrides: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(DEBUG, [*SETTINGS, *overrides])


NOTICE = """
import sys, threading
import torch.distributed as dist
from booster_ray.rl.ddpg.team import current_team
from booster_ray.train.group import TeamNotice

rank = int(sys.argv[1])
address = f"tcp://127.0.0.1:{sys.argv[2]}"
dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
team = current_team()
if rank:
    team.give_notice()  # at any time: the leader makes no call
    team.share(None)
else:
    heard = threading.Event()
    TeamNotice(team)(lambda notice: heard.set(), threading.Event())
    print("HEARD", heard.is_set(), team.noticed())
    team.share("done")
"""


def test_a_notice_of_one_worker_reaches_the_leader_over_the_teams_channel() -> None:
    port = str(free_port("127.0.0.1"))
    leader, other = (
        subprocess.Popen(
            [sys.executable, "-c", NOTICE, str(rank), port], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    )
    assert "HEARD True True" in leader.communicate(timeout=120)[0]
    assert other.wait(120) == 0
