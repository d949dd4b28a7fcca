"""What runs under Ray claim of a machine."""

from __future__ import annotations

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
    share = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    assert [process_environment(c, 1)[share] for c in (whole, part)] == ["0.75", "0.1875"]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["trainer.workers=2"], "only finetuning has a team"),
        (["trainer.workers=4", "stage=finetune"], "num_envs 6 does not divide among 4 workers"),
        (["trainer.workers=3", "stage=finetune"], "with a world for each task"),
        (["trainer.use_gpu=true"], "expected workers 1"),
    ],
)
def test_teams_that_cannot_be_are_refused(overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        config(*overrides)
