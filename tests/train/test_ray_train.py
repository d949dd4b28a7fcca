"""What runs under Ray claim of a machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from booster_ray.config import Config, ConfigError, load
from booster_ray.runtime.environment import process_environment
from booster_ray.train.ray_train import resources


def config(*overrides: str) -> Config:
    return load("debug", overrides).base()


def test_small_trials_share_a_gpu_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)  # the user's would count
    whole = config("trainer.use_gpu=true", "trainer.workers=1", "trainer.cpus=2")
    assert resources(whole) == {"CPU": 2, "GPU": 1.0}
    part = config("trainer.use_gpu=true", "trainer.gpu_fraction=0.25")
    assert resources(part) == {"CPU": 1, "GPU": 0.25}
    assert resources(config()) == {"CPU": 1}
    own = config("trainer.use_gpu=true")
    assert own.trainer.workers == 0 and resources(own) == {"CPU": 1, "GPU": 1.0}
    for workers in (0, 1):
        several = ("sac.devices=4", f"trainer.workers={workers}", "world.num_envs=8")
        assert resources(config(*several, "trainer.use_gpu=true")) == {"CPU": 1, "GPU": 4.0}
        assert resources(config(*several)) == {"CPU": 1}
    share = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    assert [process_environment(c, 1)[share] for c in (whole, part)] == ["0.75", "0.1875"]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["trainer.workers=2"], "only finetuning has a team"),
        (["trainer.workers=4", "stage=finetune"], "num_envs 6 does not divide among 4 workers"),
        (["trainer.workers=3", "stage=finetune"], "with a world for each task"),
        (["trainer.use_gpu=true", "sac.devices=2", "trainer.gpu_fraction=0.5"], "is a whole GPU"),
    ],
)
def test_teams_that_cannot_be_are_refused(overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        config(*overrides)


GPUS = """
import os, sys
import ray
from booster_ray.config import load
from booster_ray.train.ray_train import resources

ray.init(num_cpus=2, num_gpus=4, include_dashboard=False, logging_level="ERROR")
own = load("debug", ["trainer.use_gpu=true", "sac.devices=4", "world.num_envs=8"]).base()
claim = resources(own)

@ray.remote(num_cpus=claim["CPU"], num_gpus=claim["GPU"])
class Trial:
    def seen(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

trial = Trial.remote()
print("SEEN", ray.get(trial.seen.remote()), ray.available_resources().get("GPU", 0.0))
"""


def test_a_trial_of_four_devices_holds_four_gpus_in_its_own_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GPUS], capture_output=True, text=True, env=dict(os.environ)
    )
    assert "SEEN 0,1,2,3 0.0" in done.stdout, done.stderr
