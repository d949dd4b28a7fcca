"""Gate 2: the torch actor acts as the SAC actor, in every format, and goes back bit for bit."""

import itertools
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from envs.record import GAINS, RECORDED

from booster_ray.config import SAC, Config
from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate.gates.observation import preprocessed
from booster_ray.policy import convert
from booster_ray.policy.actor_files import ONNX, SCRIPT, WEIGHTS, compare, torch_policy
from booster_ray.policy.convert import ConversionError, load_actor, save_actor, to_jax, to_torch
from booster_ray.rl import normalizer
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.rl.tree import from_tree, to_tree
from booster_ray.soccer import game, observation
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.files import ACTOR
from policies import untrained

TOLERANCE, SIZE = 1e-5, 89
OPTIONS = list(itertools.product(["silu", "relu", "elu"], [True, False], [True, False]))


@cache
def states() -> np.ndarray:
    """Official states on record, and as many again that native worlds pass through. (n, 89)."""
    seen = []
    for task in game.TASKS:
        with np.load(RECORDED / f"{task}.npz") as file:
            seen.append(preprocessed(dict(file), task))
    world = NativeWorld(game.TASKS, 30, GAINS)
    rng = np.random.default_rng(0)
    observation = world.reset(0)
    for _ in range(30):
        seen.append(observation)
        observation = world.step(rng.uniform(-1, 1, (30, 12))).observation
    return np.concatenate(seen).astype(np.float32)


def configured(**sac: Any) -> Config:
    return Config.model_validate({"sac": {"actor_hidden": [64, 32], "critic_hidden": [8], **sac}})


@cache
def compiled(sac: SAC) -> Sac:
    """A learner holds no state, so one serves every test of its settings."""
    return Sac(sac, SIZE, 12)


def learned(config: Config, seed: int = 0) -> tuple[Sac, SacState]:
    """A learner as after long training: parameters of every size, statistics of real states."""
    sac = compiled(config.sac)
    state = untrained(config.model_copy(update={"seed": seed}))
    rng = np.random.default_rng(seed)

    def trained(leaf: jax.Array) -> np.ndarray:
        spread = rng.standard_normal(leaf.shape).astype(np.float32)
        kernel = leaf.ndim > 1
        drawn = spread / np.sqrt(leaf.shape[0]) if kernel else np.asarray(leaf) + 0.1 * spread
        return np.asarray(drawn, np.float32)

    spread = jax.tree.map(trained, state.actor)
    statistics = normalizer.update(normalizer.init(SIZE), states())
    return sac, state._replace(actor=spread, normalizer=statistics)


def gap(config: Config) -> float:
    sac, state = learned(config)
    ours = torch_policy(to_torch(config, to_tree(state)))(states())
    theirs = np.asarray(sac.act_mean(state, states()))
    assert np.abs(theirs).max() > 0.5  # so that the comparison means something
    return float(np.abs(ours - theirs).max())


def test_there_are_enough_states() -> None:
    assert len(np.unique(states(), axis=0)) >= 1000


@pytest.mark.parametrize(("activation", "layer_norm", "normalize"), OPTIONS)
def test_torch_acts_as_jax(activation: str, layer_norm: bool, normalize: bool) -> None:
    config = configured(
        activation=activation, layer_norm=layer_norm, normalize_observations=normalize
    )
    assert gap(config) < TOLERANCE


@pytest.mark.parametrize("hidden", [[256, 128], [16], [512, 256, 128]])
def test_any_depth_and_width(hidden: list[int]) -> None:
    assert gap(configured(actor_hidden=hidden)) < TOLERANCE


def test_normalization_is_the_normalizers_to_the_bit() -> None:
    config = configured()
    _, state = learned(config)
    actor = to_torch(config, to_tree(state))
    assert convert.CLIP == normalizer.CLIP
    deviation = np.asarray(normalizer.deviation(state.normalizer))
    assert (deviation == 1.0).any() and (deviation != 1.0).any()
    np.testing.assert_array_equal(actor.deviation.numpy(), deviation)
    far = states() + 1e3
    ours = actor.normalize(torch.from_numpy(far)).numpy()
    theirs = np.asarray(normalizer.normalize(state.normalizer, far))
    assert np.abs(theirs).max() == normalizer.CLIP
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_way_back_is_exact(normalize: bool) -> None:
    config = configured(normalize_observations=normalize)
    sac, state = learned(config)
    other, given = to_tree(learned(config, seed=1)[1]), to_tree(state)
    actor = to_torch(config, given)
    back = to_jax(actor, given)
    assert back.keys() == given.keys()
    for name in given:
        np.testing.assert_array_equal(back[name], given[name], err_msg=name)
    # Into another learner go the mean's parameters, and none of its log_std's.
    warm = to_jax(actor, other)
    head = "actor.params.Dense_2.kernel"
    np.testing.assert_array_equal(warm[head][:, :12], given[head][:, :12])
    np.testing.assert_array_equal(warm[head][:, 12:], other[head][:, 12:])
    acted = np.asarray(sac.act_mean(from_tree(state, warm), states()))
    np.testing.assert_allclose(acted, torch_policy(actor)(states()), atol=TOLERANCE)
    again = to_torch(config, warm).state_dict()
    for name, value in actor.state_dict().items():
        assert torch.equal(again[name], value), name


def test_another_normalization_goes_back_too() -> None:
    config = configured()
    sac, state = learned(config)
    actor = to_torch(config, to_tree(state))
    actor.mean += 0.5
    actor.deviation *= 1.5
    warm = from_tree(state, to_jax(actor, to_tree(state)))
    acted = np.asarray(sac.act_mean(warm, states()))
    np.testing.assert_allclose(acted, torch_policy(actor)(states()), atol=TOLERANCE)


def test_a_spec_says_all_but_the_numbers() -> None:
    actor = to_torch(configured(activation="elu"), to_tree(learned(configured())[1]))
    spec = json.loads(json.dumps(actor.spec()))
    again = TorchActor.from_spec(spec)
    again.load_state_dict(actor.state_dict())
    np.testing.assert_array_equal(torch_policy(again)(states()), torch_policy(actor)(states()))
    assert again.spec() == spec


# -- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def actor() -> TorchActor:
    config = configured(activation="elu")
    return to_torch(config, to_tree(learned(config)[1]))


@pytest.fixture(scope="module")
def saved(actor: TorchActor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("actors") / "walker"
    save_actor(actor, directory, {"score": 1.5})
    return directory


def test_every_format_acts_the_same(actor: TorchActor, saved: Path) -> None:
    assert {f.name for f in saved.iterdir()} == {WEIGHTS, SCRIPT, ONNX, ACTOR}
    gaps = compare(actor, saved)
    assert gaps.keys() == {WEIGHTS, SCRIPT, ONNX}
    assert gaps[WEIGHTS] == 0.0 and max(gaps.values()) < TOLERANCE
    again, metadata = load_actor(saved)
    assert metadata == {"score": 1.5}
    np.testing.assert_array_equal(torch_policy(again)(states()), torch_policy(actor)(states()))
    assert [p.name for p in saved.parent.iterdir()] == ["walker"]


def test_a_saved_actor_is_not_written_over(actor: TorchActor, saved: Path) -> None:
    before = {f.name: f.read_bytes() for f in saved.iterdir()}
    with pytest.raises(FileExistsError, match="walker exists"):
        save_actor(actor, saved)
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before


def test_a_format_that_acts_differently_leaves_nothing(
    actor: TorchActor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter is made to write another actor's graph."""
    export = torch.onnx.export

    def wrong(module: TorchActor, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            module.mlp.head.bias += 0.01
        return export(module, *args, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(ConversionError, match=r"actor\.onnx, loaded again, acts differently by"):
        save_actor(actor, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [WEIGHTS, SCRIPT, ONNX, ACTOR])
@pytest.mark.parametrize("kept", [0.0, 0.5, None])
def test_a_file_cut_short_or_gone_is_one_line(
    actor: TorchActor, saved: Path, name: str, kept: float | None, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    content = (broken / name).read_bytes()
    if kept is None:
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ConversionError, match=name) as caught:
        compare(actor, broken)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_each_other(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    about = json.loads((broken / ACTOR).read_text())
    about["spec"]["hidden"] = [64, 33]
    (broken / ACTOR).write_text(json.dumps(about))
    with pytest.raises(ConversionError, match=r"actor\.safetensors: does not fit actor\.json"):
        load_actor(broken)
    (broken / ACTOR).write_text(json.dumps({**about, "format": "other/3"}))
    with pytest.raises(ConversionError, match="format is 'other/3'; expected"):
        load_actor(broken)


# -- checkpoints that do not fit -------------------------------------------------------------


def test_another_format_is_refused() -> None:
    with pytest.raises(ConversionError, match="is of another format"):
        to_torch(configured(), {"policy.weight": np.zeros(3)})
    tree = to_tree(learned(configured())[1])
    del tree["normalizer.square"]
    with pytest.raises(ConversionError, match=r"lacks 'normalizer\.square'"):
        to_torch(configured(), tree)
    assert issubclass(ConversionError, CheckpointError)  # which commands tell in one line


@pytest.mark.parametrize(
    ("sac", "said"),
    [
        ({"actor_hidden": [64]}, r"hidden layers are \[64, 32\]; sac.actor_hidden is \[64\]"),
        ({"layer_norm": False}, "has LayerNorm; sac.layer_norm is false"),
    ],
)
def test_another_network_is_refused(sac: dict[str, Any], said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        to_torch(configured(**sac), to_tree(learned(configured())[1]))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (86, r"sees 86 numbers \(official, without the task one-hot\)"),
        (87, r"sees 87 numbers \(official, with one task\)"),
        (100, r"sees 100 numbers \(official, with three tasks, and egocentric, clock\)"),
        (50, r"sees 50 numbers \(not an observation of the game\)"),
    ],
)
def test_another_observation_is_refused_by_name(size: int, said: str) -> None:
    tree = {
        name: np.zeros((size, *np.shape(leaf)[1:]), np.float32)
        if np.shape(leaf)[:1] == (SIZE,)
        else leaf
        for name, leaf in to_tree(untrained(configured())).items()
    }
    with pytest.raises(ConversionError, match=said) as caught:
        to_torch(configured(), tree)
    assert "gives 89 numbers (official, with three tasks)" in str(caught.value)


def test_every_choice_of_features_is_named_by_its_size() -> None:
    names = list(observation.FEATURES)
    some = [c for n in range(len(names) + 1) for c in itertools.combinations(names, n)]
    for chosen in some:
        told = convert.describe_observation(observation.size(chosen))
        assert ", ".join(chosen) in told
        others = [c for c in some if c and observation.size(c) == observation.size(chosen)]
        assert told.count("; or ") == max(len(others) - 1, 0)


def test_an_actor_that_is_not_finite_is_refused() -> None:
    tree = to_tree(learned(configured())[1])
    tree["actor.params.Dense_1.bias"] = np.full(32, np.nan, np.float32)
    with pytest.raises(ConversionError, match=r"mlp\.hidden\.1\.linear\.bias is not finite"):
        to_torch(configured(), tree)


def test_an_actor_of_another_shape_does_not_go_back() -> None:
    tree = to_tree(learned(configured())[1])
    other = TorchActor(89, 12, (64, 16), clip=10.0)
    with pytest.raises(ConversionError, match=r"is of shape .*; the learner's is"):
        to_jax(other, tree)
