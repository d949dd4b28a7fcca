"""A dataset as a run's own transitions: its weights, its endings, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from booster_ray.config import Config, ConfigError, load
from booster_ray.data.dataset import Dataset
from booster_ray.data.reading import demonstrations
from booster_ray.envs.make import make_world
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains, training_options

DEFAULT = Path(__file__).parents[2] / "tune_configs/default.yaml"
LAYOUT = [
    "control.action_scale=1.0",
    "observation.features=[egocentric,clock,previous_action]",
    "observation.gait_frequency=2.2",
]


def configured(dataset: Path, *overrides: str) -> Config:
    return load(DEFAULT, [f"replay.demonstrations={dataset}", *LAYOUT, *overrides]).base()


def test_rewards_are_those_that_the_run_would_pay(recorded: Path) -> None:
    overrides = ["rewards.approach=40.0", "rewards.goal=5.0", "rewards.official=2.0"]
    config = configured(recorded, *overrides)
    found = demonstrations(config, "train")
    episodes = list(Dataset(recorded).episodes("train"))
    assert len(found.steps) == 3
    world = NativeWorld(
        [e.about["task"] for e in episodes], 3, gains(config), auto_reset=False,
        **training_options(config),
    )  # fmt: skip
    first = world.reset(0, env_seeds=[e.about["seed"] for e in episodes])
    starts = np.concatenate([[0], np.cumsum(found.steps + 1)[:-1]])
    np.testing.assert_array_equal(first, found.observation[starts])
    for step in range(int(found.steps.max())):
        rows = starts + np.minimum(step, found.steps - 1)
        result = world.step(found.action[rows])
        mine = step < found.steps
        np.testing.assert_allclose(result.reward[mine], found.reward[rows][mine], atol=2e-4)
        np.testing.assert_array_equal(
            result.final_observation[mine], found.observation[rows + 1][mine]
        )
        last = step == found.steps - 1
        np.testing.assert_array_equal(result.terminated[last], found.terminated[last])
    world.close()


def test_time_that_is_up_ends_the_game_where_the_run_says_so(recorded: Path) -> None:
    truncates = demonstrations(configured(recorded), "train")
    ends = demonstrations(configured(recorded, "world.time_limit=terminates"), "train")
    assert ends.terminated.all()
    assert truncates.terminated.sum() == sum(
        e.terminated for e in Dataset(recorded).episodes("train")
    )


def test_only_the_runs_tasks(recorded: Path) -> None:
    found = demonstrations(configured(recorded, "tasks=[obstacle]"), "train")
    assert found.task.tolist() == [1]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("observation.features=[clock]", r"observation.features \['egocentric', 'clock'"),
        ("observation.gait_frequency=1.5", "gait_frequency 2.2; this run has 1.5"),
        ("control.action_scale=0.5", "control.action_scale 1.0; this run has 0.5"),
        ("control.decimation=5", "control.decimation 10; this run has 5"),
        ("world=gym:Pendulum-v1", "observations of 112 numbers; this run's have 3"),
    ],
)
def test_what_means_something_else_is_refused(recorded: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        demonstrations(configured(recorded, override), "train")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        demonstrations(configured(tmp_path / "none"), "train")
    with pytest.raises(ConfigError, match="holds no Minari dataset"):
        demonstrations(configured(tmp_path), "train")


def test_worlds_are_those_of_the_config(recorded: Path) -> None:
    """The layout that is compared is the one that worlds have."""
    config = configured(recorded, "world.num_envs=3")
    world = make_world(config, 1)
    assert world.observation_size == Dataset(recorded).opened().observation_space.shape[0]
    world.close()
