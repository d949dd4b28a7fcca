"""Demonstrations in SAC's batches, and cloning: they learn, and go on bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train.sharing import share_programs
from train.test_resume_exact import COMMON, QUICK, assert_same, in_process
from train.trees import differing

from booster_ray.config import Config, ConfigError, load
from booster_ray.data.command import main as data
from booster_ray.data.dataset import Dataset
from booster_ray.envs.make import sizes
from booster_ray.store import checkpoint
from booster_ray.train import preflight
from booster_ray.train.policy import load_policy
from booster_ray.train.runner import Runner

pytestmark = pytest.mark.usefixtures("compiled_once")

ROOT = Path(__file__).parents[2]
STRIKER = str(ROOT / "policies/striker")
LAYOUT = [
    "control.action_scale=1.0",
    "observation.features=[egocentric,clock,previous_action]",
    "observation.gait_frequency=2.2",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "striker-v0"
    args = ["record", STRIKER, "--output", str(folder), "--episodes", "2", "--noise", "0.02"]
    assert data([*args, "--processes", "1", "--validation", "0.5"]) == 0
    return folder


def configured(dataset: Path, *overrides: str) -> Config:
    return load(
        ROOT / "tune_configs/debug.yaml",
        [
            f"replay.demonstrations={dataset}",
            *LAYOUT,
            "randomization.level=0",
            "rewards.height=1.0",
            "sac.critic_lr=3e-4",
            "training.env_steps=240",
            "training.report_every=30",
            "checkpoint.every_env_steps=90",
            "evaluation.every=1_000_000",
            "world.episode_seconds=0.3",
            *overrides,
        ],
    ).base()


def clone(dataset: Path, *overrides: str) -> Config:
    options = ["stage=clone", "sac.batch_size=64", "sac.updates_per_step=4", *overrides]
    return configured(dataset, *options)


def test_a_batch_holds_their_share(dataset: Path) -> None:
    config = configured(dataset, "replay.demonstration_share=0.25")
    training = Runner(config)
    collector: Any = training.collector
    for step in range(12):
        collector.advance(6 * step)
    batch = collector.learner._sampled(np.random.default_rng(0))
    known = {row.tobytes() for e in Dataset(dataset).episodes("train") for row in e.observations}
    mine = np.array([[row.tobytes() in known for row in rows] for rows in batch.observation])
    training.close()
    # Each world's first observations are the spawns of other seeds, but Goalie has only one.
    assert mine.shape == (1, 32) and mine[:, -8:].all() and mine.sum() <= 12


@pytest.mark.parametrize("more", [[], ["sac.n_step=3", "sac.symmetry=augment"]])
def test_a_run_with_them_that_is_cut_ends_the_same(
    dataset: Path, tmp_path: Path, more: list[str]
) -> None:
    config = configured(dataset, *more)
    in_process(tmp_path / "whole", config)
    in_process(tmp_path / "cut", config, reports=4)
    in_process(tmp_path / "cut", config)
    assert_same(tmp_path / "cut", tmp_path / "whole", config.training.env_steps)


def raw(folder: Path, config: Config) -> Path:
    """Five random episodes for the worlds of a config."""
    rng, (observation, action) = np.random.default_rng(0), sizes(config)
    (folder / "raw").mkdir(parents=True)
    for i in range(5):
        np.savez(
            folder / f"raw/{i}.npz",
            observations=rng.standard_normal((21, observation)),
            actions=rng.uniform(-1, 1, (20, action)),
            rewards=rng.standard_normal(20),
            terminated=np.array(i % 2 == 0),
        )
    assert data(["convert", str(folder / "raw"), "--output", str(folder / "made")]) == 0
    return folder / "made"


def test_on_the_device_a_run_that_is_cut_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_programs(monkeypatch)
    plain = load(ROOT / "tune_configs/debug.yaml", [*COMMON, *QUICK["device"]]).base()
    shown = plain.replay.model_copy(update={"demonstrations": str(raw(tmp_path, plain))})
    config = plain.model_copy(update={"replay": shown})
    in_process(tmp_path / "whole", config)
    in_process(tmp_path / "cut", config, reports=4)
    in_process(tmp_path / "cut", config)
    assert_same(tmp_path / "cut", tmp_path / "whole", config.training.env_steps)
    in_process(tmp_path / "plain", plain)
    name = f"step_{config.training.env_steps:012d}"
    with_, without = (checkpoint.load(tmp_path / d / name)[0] for d in ("whole", "plain"))
    assert any(leaf.startswith("learner/critic") for leaf in differing(with_, without))


def test_cloning_learns_and_is_a_policy_like_any_other(dataset: Path, tmp_path: Path) -> None:
    config = clone(
        dataset, "training.env_steps=51_200", "training.report_every=5120",
        "checkpoint.every_env_steps=25_600", "sac.actor_hidden=[64]",
    )  # fmt: skip
    in_process(tmp_path / "run", config)
    reports = [json.loads(line) for line in (tmp_path / "run/progress.jsonl").open()]
    assert [r["env_steps"] for r in reports] == list(range(0, 51_201, 5120))
    assert reports[-1]["actor_loss"] < 0.3 * reports[1]["actor_loss"]
    # Of one episode that is held out; with so few others it learns them by heart in the end.
    assert np.sqrt(reports[-1]["validation_loss"]) < 0.2
    assert "score" in reports[-1]
    step = tmp_path / "run/step_000000051200"
    _, policy = load_policy(step)
    (episode, *_) = Dataset(dataset).episodes("train")
    error = policy(episode.observations[:-1]) - episode.actions
    assert np.sqrt(np.mean(error**2)) < 0.2

    from booster_ray.train.finetune_start import find

    widths = ["sac.actor_hidden=[64]", "stage=finetune", "replay.demonstrations=null"]
    origin = find(configured(dataset, *widths, f"start_from={step}"))
    assert origin.config.stage == "clone"


def test_cloning_that_is_cut_ends_the_same(dataset: Path, tmp_path: Path) -> None:
    sizes = ["training.env_steps=7680", "training.report_every=768"]
    config = clone(dataset, *sizes, "checkpoint.every_env_steps=2048")
    first, second = Runner(config), None
    middle = None
    for i, report in enumerate(first):
        middle = report.capture() if i == 4 else middle
    last = first._capture()
    second = Runner(config, middle)
    for _ in second:
        pass
    assert differing(second._capture(), last) == []
    first.close()
    second.close()


def test_a_dataset_that_changed_needs_a_new_run(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    args = ["record", STRIKER, "--output", str(other), "--episodes", "1", "--noise", "0.02"]
    data([*args, "--processes", "1", "--validation", "0", "--tasks", "goalie"])
    moved = Path(shutil.copytree(dataset, tmp_path / "moved"))
    config = configured(moved, "tasks=[goalie]", "training.env_steps=120")
    in_process(tmp_path / "run", config, reports=3)
    shutil.rmtree(moved)
    shutil.copytree(other, moved)
    with pytest.raises(ValueError, match="a changed dataset needs a new run"):
        in_process(tmp_path / "run", config)


def test_what_does_not_fit_is_refused_before_a_name_is_taken(dataset: Path, tmp_path: Path) -> None:
    overrides = [f"replay.demonstrations={dataset}", f"storage={tmp_path / 'runs'}"]
    with pytest.raises(ConfigError, match=r"replay.demonstrations: .* observation.features"):
        preflight.begin(load(ROOT / "tune_configs/stand.yaml", overrides))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stage=clone", "replay.demonstrations=null"], "expected a dataset to clone"),
        (["stage=finetune"], "null to finetune"),
        (["imitation.demonstrator=a:B"], "expected one of the two"),
        (["stage=clone", "world=mjx"], "expected worlds on the host"),
        (["replay.demonstration_share=1.0"], "demonstration_share"),
    ],
)
def test_configs_that_cannot_be(dataset: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configured(dataset, *overrides)
