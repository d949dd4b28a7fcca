"""What may be finetuned, and what is refused in one line before anything is begun."""

import json
import shutil
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pytest

from booster_ray.config import Config, ConfigError, load
from booster_ray.policy.actor_files import torch_policy
from booster_ray.policy.convert import save_actor, to_torch
from booster_ray.rl.tree import to_tree
from booster_ray.soccer.observation import size as observation_size
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.train.finetune_start import begin, find, grown
from booster_ray.train.learner import make_learner
from policies import untrained

DEFAULT = Path(__file__).parents[2] / "tune_configs/default.yaml"
SMALL = ["sac.actor_hidden=[16, 8]", "sac.critic_hidden=[8]"]


def configured(*overrides: str) -> Config:
    return load(DEFAULT, [*SMALL, *overrides]).base()


def finetuning(start: Path | str, *overrides: str) -> Config:
    return configured("stage=finetune", f"start_from={start}", *overrides)


def trained(folder: Path, *overrides: str, name: str = "best_000000000100") -> Path:
    """A checkpoint as pretraining leaves it."""
    config = configured(*overrides)
    size = observation_size(config.observation.features)
    tree = to_tree(untrained(config.model_copy(update={"seed": 7})))
    rng = np.random.default_rng(0)
    tree["normalizer.seen"] = np.float32(100.0)
    tree["normalizer.mean"] = rng.normal(size=size).astype(np.float32)
    tree["normalizer.square"] = 100 * rng.random(size).astype(np.float32)
    tree["actor.params.Dense_2.kernel"] = 30.0 * tree["actor.params.Dense_2.kernel"]
    checkpoint.save(folder / name, {"learner": tree}, {"config": config.to_dict()})
    return folder / name


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run"))


def test_a_run_a_sweep_and_an_exported_actor_are_found(best: Path, tmp_path: Path) -> None:
    actor, metadata = find(finetuning(best)).actor, checkpoint.load(best)[1]
    trained(best.parent, name="step_000000000900")
    assert find(finetuning(best.parent)).path == best
    sweep = tmp_path / "sweep"
    shutil.copytree(best, sweep / "best" / "checkpoint")
    assert find(finetuning(sweep)).path == sweep / "best" / "checkpoint"
    save_actor(actor, tmp_path / "exported", metadata)
    seen = np.random.default_rng(1).standard_normal((20, 89)).astype(np.float32)
    wanted = torch_policy(actor)(seen)
    for place in (best.parent, sweep, tmp_path / "exported"):
        again = torch_policy(find(finetuning(place)).actor)(seen)
        np.testing.assert_array_equal(again, wanted)
    assert np.abs(wanted).max() > 0.1


def test_new_features_are_seen_but_not_yet_heeded(tmp_path: Path) -> None:
    """Also when they come before those that the policy knows."""
    start = trained(tmp_path, "observation.features=[clock]")
    config = finetuning(start, "observation.features=[egocentric, clock]")
    actor = begin(config).actor
    old = find(config).actor
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((50, observation_size(["egocentric", "clock"]))).astype(np.float32)
    known = np.concatenate([seen[:, :89], seen[:, 98:]], axis=1)
    np.testing.assert_allclose(torch_policy(actor)(seen), torch_policy(old)(known), atol=1e-6)
    assert torch_policy(old)(known).std(axis=0).max() > 0.05
    weight = actor.mlp.hidden[0].linear.weight
    assert not weight[:, 89:98].any()  # type: ignore[index]
    assert grown(old, ["clock"], ["clock"]) is old


def test_from_scratch_the_seed_decides() -> None:
    def first(seed: int) -> Any:
        start = begin(configured("stage=finetune", f"seed={seed}"))
        assert start.adapt and start.kept is None
        return start.actor.state_dict()["mlp.hidden.0.linear.weight"]

    assert (first(0) == first(0)).all() and not (first(0) == first(1)).all()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["control.action_scale=0.7"], r"control.action_scale: is 0.7; .* was trained with 0.5"),
        (["control.mode=torque"], r"control.mode: is torque; .* was trained with pd"),
        (["sac.actor_hidden=[16]"], r"sac.actor_hidden: is \[16\]; the actor of .* has \[16, 8\]"),
        (["sac.activation=elu"], r"sac.activation: is elu; the actor of .* has silu"),
        (["sac.layer_norm=false"], "sac.layer_norm: is False; the actor of .* has True"),
        (["sac.normalize_observations=false"], "sac.normalize_observations: is False; "),
        (["world=gym:Pendulum-v1"], "world.kind: is gym:Pendulum-v1; .* was trained in native"),
    ],
)
def test_another_game_or_network_is_refused(best: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        find(finetuning(best, *overrides))
    assert "\n" not in str(caught.value) and str(best) in str(caught.value)


def test_a_feature_that_the_policy_needs_is_asked_for(tmp_path: Path) -> None:
    start = trained(tmp_path, "observation.features=[egocentric, clock]")
    with pytest.raises(ConfigError, match=r"observation.features: lacks egocentric: .* 100 numb"):
        find(finetuning(start, "observation.features=[clock]"))
    same = "observation.features=[egocentric, clock]"
    with pytest.raises(ConfigError, match=r"gait_frequency: is 2.0; .* was trained with 1.5"):
        find(finetuning(start, same, "observation.gait_frequency=2.0"))


def test_an_observation_of_another_game_is_named(tmp_path: Path) -> None:
    """A checkpoint whose network does not fit its own config: 87 numbers, one task."""
    config = configured()
    tree = to_tree(make_learner(config, 87, 12).init(0))
    checkpoint.save(tmp_path / "best_1", {"learner": tree}, {"config": config.to_dict()})
    with pytest.raises(CheckpointError, match=r"best_1: the actor sees 87 numbers \(official, wit"):
        find(finetuning(tmp_path))


def test_damage_is_one_line(best: Path, tmp_path: Path) -> None:
    torn = tmp_path / "best_000000000100"
    shutil.copytree(best, torn)
    arrays = torn / "arrays.bin"
    arrays.write_bytes(arrays.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"arrays\.bin: holds \d+ bytes") as caught:
        find(finetuning(torn))
    assert "\n" not in str(caught.value)
    manifest = torn / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    with pytest.raises(CheckpointError, match=r"manifest\.json: not JSON"):
        find(finetuning(torn))
    manifest.write_text(json.dumps({"weights": 1}))
    with pytest.raises(CheckpointError, match="not a checkpoint manifest"):
        find(finetuning(torn))


@pytest.mark.parametrize(
    ("path", "said"), [("nowhere", "no such file or folder"), ("", "no checkpoint there")]
)
def test_a_path_without_a_policy_is_refused(path: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"start_from: .*{said}, expected a checkpoint"):
        find(finetuning(tmp_path / path))


def test_the_command_refuses_before_it_begins(tmp_path: Path) -> None:
    done = driving.inside(
        "finetune", f"start_from={tmp_path}/none", f"storage={tmp_path}/runs", module="train"
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: start_from: {tmp_path}/none: no such file or folder")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_command_finetunes_what_it_is_given(best: Path, tmp_path: Path) -> None:
    code, output = driving.run(
        "finetune",
        f"start_from={best}",
        f"storage={tmp_path}",
        *SMALL,
        "world.num_envs=6",
        "training.env_steps=240",
        "training.report_every=60",
        "evaluation.episodes_per_task=1",
        "evaluation.every=240",
        "ddpg.critic_hidden=[16]",
        "ddpg.batch_size=32",
        "ddpg.learning_starts=60",
        "ddpg.critic_warmup=60",
        "ddpg.thawing=[{start: 0, layers: null, lr: 1e-3}]",
        module="train",
    )
    assert code == 0, output
    assert "240/240 env steps (100%)" in output and "official score" in output
    tree, metadata = checkpoint.load(tmp_path / "finetune/step_000000000240", keys=["learner"])
    config = Config.model_validate(metadata["config"])
    assert to_torch(config, tree["learner"]).spec()["observation_size"] == 100
    assert "actor_loss" in metadata
