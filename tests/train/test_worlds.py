"""Runs in worlds outside the game: the same loop, the same resume, one line for bad input."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path

import driving
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from train.trees import differing, numbers

from booster_ray.config import Config, ConfigError, load
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import Tree
from booster_ray.store.files import best_checkpoint
from booster_ray.train.policy import load_policy
from booster_ray.train.preflight import begin
from booster_ray.train.run import Run
from booster_ray.train.runner import Runner

pytestmark = pytest.mark.usefixtures("compiled_once")

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"


def configured(*overrides: str) -> Config:
    return load(
        DEBUG,
        [
            "world.num_envs=3",
            "training.env_steps=360",
            "training.report_every=60",
            "evaluation.every=180",
            "sac.replay_size=256",
            *overrides,
        ],
    ).base()


def to_the_end(
    config: Config, restored: Tree | None = None, keep: int = 180
) -> tuple[list[dict[str, float]], Tree, Tree]:
    """Reports, the state at ``keep`` env steps, and the last state."""
    training = Runner(config, restored)
    reports, kept, last = [], {}, {}
    for report in training:
        reports.append(numbers(report))
        if report.metrics["env_steps"] == keep:
            kept = deepcopy(report.capture())  # the replay of a capture goes on
        last = report.capture() if training.finished else {}
    training.close()
    return reports, kept, last


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Hopper-v5"])
def test_a_gym_run_resumes_bit_for_bit(env_id: str, tmp_path: Path) -> None:
    config = configured(f"world=gym:{env_id}")
    reports, kept, end = to_the_end(config)
    assert [r["env_steps"] for r in reports if "score" in r] == [0, 180, 360]
    assert "critic_loss" in reports[-1] and "score/goalie" not in reports[-1]
    checkpoint.save(tmp_path / "saved", kept)
    tree, _ = checkpoint.load(tmp_path / "saved")
    again, _, same_end = to_the_end(config, tree)
    assert again == [r for r in reports if r["env_steps"] > 180]
    assert differing(end, same_end) == []


class Hidden(gymnasium.Env[np.ndarray, np.ndarray]):
    """Counts in an iterator, which has no state that could be saved."""

    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, **options: object) -> tuple[np.ndarray, dict[str, object]]:
        self.clock = iter(range(1000))
        return np.zeros(2, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        tick = next(self.clock)
        return np.full(2, tick / 10, np.float32), float(action[0]), tick == 9, False, {}


gymnasium.register("Hidden-v0", Hidden)


def test_an_environment_without_a_state_begins_anew_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = configured("world=gym:Hidden-v0")
    _, kept, _ = to_the_end(config)
    with caplog.at_level(logging.WARNING):
        again, *_ = to_the_end(config, kept)
    assert [r["env_steps"] for r in again] == [240, 300, 360]
    said = "the state of gym:Hidden-v0 cannot be saved: its episodes begin anew at 180 env steps"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_its_policy_comes_out_of_the_checkpoint(tmp_path: Path) -> None:
    config = configured("world=gym:Pendulum-v1")
    assert list(Run(config, tmp_path))
    best = best_checkpoint(tmp_path)
    assert best is not None
    saved, policy = load_policy(best)
    assert saved == config
    assert policy(np.zeros((5, 3), np.float32)).shape == (5, 1)


def test_the_command_trains_a_gym_environment(tmp_path: Path) -> None:
    code, output = driving.run(
        "debug", f"storage={tmp_path}", "name=one", "world=gym:Pendulum-v1",
        "randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4",
        module="train",
    )  # fmt: skip
    assert code == 0, output
    assert "score -" in output and "official" not in output


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gym:Pendulm-v1", "did you mean 'gym:Pendulum-v1'?"),
        ("gym:CartPole-v1", "actions from a Discrete; expected a bounded Box"),
        ("gym:no.such.module:X-v0", "gymnasium cannot make"),
        ("brax:ants", "did you mean 'brax:ant'?"),
        ("brax:ant/sprig", "did you mean 'brax:ant/spring'?"),
        ("metaworld:reach-v2", "did you mean 'reach-v3'?"),
        ("metaworld:MT1:reach-v3,push-v3", "expected one task, or metaworld:reach-v3,push-v3"),
        ("metaworld:push-v3,push-v3", "expected each task once"),
        ("nativ", "gym:ENV_ID, brax:NAME or metaworld:TASKS; did you mean 'native'?"),
    ],
)
def test_a_wrong_world_is_one_line_before_anything_begins(
    kind: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"world\.kind: ") as caught:
        begin(load(DEBUG, [f"world={kind}", f"storage={tmp_path / 'runs'}"]))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("world", "said"),
    [
        ("{kind: gym:Ant-v5, kwargs: {legs: 6}}", "kwargs: Ant-v5 cannot be made: TypeError"),
        ("{kind: gym:Ant-v5, kwargs: [6]}", "world.kwargs: is a list of 1, expected a mapping"),
        (
            "{kind: gym:Ant-v5, kwargs: {legs: .inf}}",
            "kwargs: has inf, expected plain values",
        ),
        ("{kind: gym:Ant-v5, kwargs: {g: {search: choice, values: [1]}}}", "kwargs: has a search"),
        ("{kind: brax:ant, kwargs: {legs: 6}}", "only gym takes some"),
        ("{kind: mjx, processes: 2}", "world.processes: processes 2 with kind mjx, expected null"),
    ],
)
def test_wrong_keyword_arguments_are_one_line_before_anything_begins(
    world: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        begin(load(DEBUG, [f"world={world}", f"storage={tmp_path / 'runs'}"]))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_diverged_run_names_its_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("world=gym:Pendulum-v1", "checkpoint.every_env_steps=60")
    metrics = "booster_ray.train.host_collector.HostCollector.metrics"
    told = iter([{"critic_loss": 1.0}, {"critic_loss": 2.0}, {"critic_loss": 1e9}])
    monkeypatch.setattr(metrics, lambda self: next(told))
    with pytest.raises(RuntimeError, match="critic_loss is 1e\\+09, beyond 1e\\+06 after 180"):
        list(Run(config, tmp_path))
    error = (tmp_path / "error.txt").read_text()
    assert error.startswith("TrainingDiverged") and str(tmp_path / "step_000000000120") in error
