"""Policies that Stable-Baselines3 trained in our worlds are evaluated as they were trained."""

import importlib.util
import json
import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import A2C, DDPG, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import data_to_json

import booster_ray.envs.vector  # noqa: F401  (registers the worlds)
from booster_ray.cli import guarded
from booster_ray.config import ConfigError
from booster_ray.evaluate import predicting
from booster_ray.evaluate.command import main
from booster_ray.evaluate.play import play_native, play_official
from booster_ray.evaluate.target import load_target
from booster_ray.policy.settings import Settings

WORLD = "booster_ray/GoaliePenaltyKick-v0"
TINY: dict[Any, dict[str, Any]] = {
    SAC: {"learning_starts": 10, "batch_size": 16, "buffer_size": 1000},
    DDPG: {"learning_starts": 10, "batch_size": 16, "buffer_size": 1000},
    PPO: {"n_steps": 32, "batch_size": 32},
    A2C: {"use_sde": True},
}


def trained(kind: Any, path: Path, net: tuple[int, ...] = (16,), **world: Any) -> BaseAlgorithm:
    """A policy of forty steps in one world of ours, saved."""
    env = gymnasium.make(WORLD, **world)
    network = {"net_arch": list(net)}
    model = kind("MlpPolicy", env, policy_kwargs=network, seed=0, device="cpu", **TINY[kind])
    model.learn(40)
    model.save(path)
    env.close()
    return model


def plain_loop(model: Any, seed: int, **world: Any) -> tuple[float, float]:
    """Score and seconds of an episode in the environment that it was trained in."""
    env = gymnasium.make(WORLD, **world)
    seen, _ = env.reset(seed=seed)
    total, over, state, record = 0.0, False, None, {}
    while not over:
        action, state = model.predict(seen, state=state, deterministic=True)
        seen, reward, ended, cut, record = env.step(action)
        total, over = total + reward, ended or cut
    env.close()
    return total, record["seconds"]


@pytest.mark.parametrize(
    ("kind", "world", "settings"),
    [
        (SAC, {}, None),
        (PPO, {"mode": "pd", "decimation": 10}, None),
        (A2C, {"mode": "torque", "decimation": 5}, Settings(mode="torque", decimation=5)),
        (DDPG, {"decimation": 4}, Settings(decimation=4)),
    ],
)
def test_it_scores_as_in_its_own_environment(
    kind: Any, world: dict[str, Any], settings: Settings | None, tmp_path: Path
) -> None:
    model = trained(kind, tmp_path / "m.zip", **world)
    target = load_target(str(tmp_path / "m.zip"), settings, trust=True)
    assert target.kind == "stable_baselines3"
    for seed in (3, 4):
        score, seconds = plain_loop(model, seed, **world)
        (ours,) = play_native([seed], target.make_player, tasks=["goalie"])
        assert ours.score == pytest.approx(score, abs=1e-3) and seconds < 9
        assert ours.seconds == pytest.approx(seconds, abs=1e-9)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zips") / "m.zip"
    trained(PPO, path, mode="pd", decimation=10)
    return path


def test_the_command_and_the_official_worlds(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = saved, PPO.load(saved, device="cpu")
    out = tmp_path / "out"
    argv = [str(path), "--episodes", "1", "--trust", "--seed", "3", "--output", str(out)]
    assert guarded(lambda: main(argv)) == 0
    assert "stable_baselines3" in capsys.readouterr().out
    told = json.loads((out / "evaluation.json").read_text())
    assert told["kind"] == "stable_baselines3" and told["target"] == str(path)
    score = plain_loop(model, 3, mode="pd", decimation=10)[0]
    assert told["tasks"]["goalie"]["score"]["mean"] == pytest.approx(score, abs=1e-3)
    player = load_target(str(path), trust=True).make_player
    (official,) = play_official([3], player, tasks=["goalie"])
    assert official.score == pytest.approx(score, abs=1e-3)


def test_a_model_of_a_users_own_module(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from stable_baselines3 import PPO\nmodel = PPO.load('m.zip', device='cpu')\n"
    (saved.parent / "my_model.py").write_text(text)
    monkeypatch.chdir(saved.parent)
    try:
        target = load_target("my_model:model")
    finally:
        sys.modules.pop("my_model", None)
    from_zip = load_target("m.zip", trust=True)
    ours, theirs = (play_native([1], t.make_player, tasks=["goalie"]) for t in (target, from_zip))
    assert target.kind == "object" and ours == theirs


class Recurrent:
    """Counts its steps in its state, as a recurrent policy keeps its memory there."""

    def __init__(self, size: int = 89) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (12,))
        self.told: list[tuple[Any, list[bool], int]] = []

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:  # fmt: skip
        assert deterministic and observation.dtype == np.float32
        self.told.append((state, episode_start.tolist(), observation.shape[1]))
        return np.zeros((len(observation), 12)), 1 + (state or 0)


def test_a_state_is_passed_on_once_a_control_step() -> None:
    policy = Recurrent()
    target = predicting.predicting_target("r", "object", policy, None)
    episodes = play_official([0, 1], target.make_player, tasks=["goalie"])
    wanted = []
    for episode in episodes:
        decisions = -(-round(episode.seconds / 0.002) // 10)
        wanted += [(None, [True], 89), *((i, [False], 89) for i in range(1, decisions))]
    assert policy.told == wanted


# -- what is refused -------------------------------------------------------------------------------


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def rewritten(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy whose data are changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                about = json.loads(content)
                change(about)
                content = json.dumps(about).encode()
            new.writestr(name, content)
    return target


def trap(key: str, file: Path) -> Callable[[dict[str, Any]], object]:
    pickled = json.loads(data_to_json({"x": Trap(file)}))["x"]
    return lambda about: about.update({key: pickled})


@pytest.mark.parametrize("key", ["policy_class", "observation_space", "policy", "lr_schedule"])
def test_nothing_is_unpickled_without_trust(
    key: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sprung = tmp_path / "sprung"
    path = rewritten(saved, tmp_path / "m.zip", trap(key, sprung))
    assert guarded(lambda: main([str(path), "--episodes", "1"])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"{path}: " in line and "--trust" in line
    assert not sprung.exists()
    # Even then only what a policy is made of.
    with pytest.raises(ConfigError) if key != "lr_schedule" else nullcontext():
        load_target(str(path), trust=True)
    assert sprung.exists() == (key != "lr_schedule")


def drop(*names: str) -> Callable[[dict[str, Any]], object]:
    return lambda about: [about.pop(name) for name in names]


def of_module(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda about: about["policy_class"].update(__module__=name)


def garbled(about: dict[str, Any]) -> None:
    about["policy_class"][":serialized:"] = "gASVKAAAAAAAAACMCG5vX3N1Y2iUjAFQlJOULg=="


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop("observation_space"), "its data lacks a policy, expected what Stable-Baselines3"),
        (of_module("sbx.ppo.policies"), "was written by sbx, .* pip install sbx-rl"),
        (of_module("sb3_contrib.tqc.policies"), "pip install sb3-contrib"),
        (garbled, "cannot be read: "),
        (lambda a: a.update(policy_kwargs={"net_arch": [8]}), "cannot be read: RuntimeError: "),
    ],
)
def test_zips_that_cannot_be_played(
    change: Callable[[dict[str, Any]], object],
    says: str,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    absent = ("sbx", "sb3_contrib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in absent else found(n))
    path = rewritten(saved, tmp_path / "m.zip", change)
    with pytest.raises(ConfigError, match=says) as refused:
        load_target(str(path), trust=True)
    line = str(refused.value)
    assert line.startswith(str(path)) and "\n" not in line and len(line) < 500


def test_files_that_are_no_such_zip(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for content in (b"", b"PK", b"no zip at all", whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / "m.zip").write_bytes(content)
        with pytest.raises(ConfigError, match=r"(not a whole zip|has no data in it), expected"):
            load_target(str(tmp_path / "m.zip"), trust=True)
    with zipfile.ZipFile(tmp_path / "n.zip", "w") as other:
        other.writestr("readme", "hello")
    with pytest.raises(ConfigError, match=r"n\.zip: has no data in it"):
        load_target(str(tmp_path / "n.zip"))


def box(*shape: int, reach: float = 1.0) -> gymnasium.Space[Any]:
    return gymnasium.spaces.Box(-reach, reach, shape)


@pytest.mark.parametrize(
    ("seen", "acted", "says"),
    [
        (box(45), box(12), r"observes Box\(.*\(45,\), float32\), expected a Box of \(89,\)"),
        (gymnasium.spaces.Dict({"a": box(89)}), box(12), "observes Dict"),
        (box(3, 89), box(12), "observes Box"),
        (box(89), box(11), r"acts in Box\(.*\(11,\).*expected a Box of \(12,\) between ±1"),
        (box(89), box(12, reach=0.5), "acts in Box"),
        (box(89), gymnasium.spaces.Discrete(4), r"acts in Discrete\(4\)"),
    ],
)
def test_spaces_that_are_not_ours(seen: Any, acted: Any, says: str) -> None:
    policy = Recurrent()
    policy.observation_space, policy.action_space = seen, acted
    with pytest.raises(ConfigError, match=says) as refused:
        predicting.predicting_target("theirs", "object", policy, None)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", [86, 87, 91])
def test_the_sizes_of_what_is_observed(size: int) -> None:
    policy = Recurrent(size)
    settings = Settings(features=("clock",)) if size == 91 else None
    target = predicting.predicting_target("r", "object", policy, settings)
    play_native([0], target.make_player, tasks=["goalie"])
    assert {told[2] for told in policy.told} == {size}


def test_a_policy_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "import gymnasium\nclass Model:\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (89,))\n"
        "    action_space = gymnasium.spaces.Box(-1, 1, (12,))\n"
        "    def predict(self, observation, **more):\n        raise ValueError('worn out')\n"
        "model = Model()\n"
    )
    (tmp_path / "my_failing.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert guarded(lambda: main(["my_failing:model", "--episodes", "1"])) == 2
    line = capsys.readouterr().err
    assert "my_failing:model: ValueError: worn out (my_failing.py:6)" in line
    assert line.count("\n") == 1


def test_a_policy_of_sbx(tmp_path: Path) -> None:
    sbx = pytest.importorskip("sbx", reason="sbx-rl is of the extra `bench`")
    env = gymnasium.make(WORLD)
    model = sbx.SAC("MlpPolicy", env, policy_kwargs={"net_arch": [16]}, seed=0, **TINY[SAC])
    model.learn(40).save(tmp_path / "m.zip")
    env.close()
    target = load_target(str(tmp_path / "m.zip"), trust=True)
    (ours,) = play_native([1], target.make_player, tasks=["goalie"])
    assert target.kind == "sbx"
    assert ours.score == pytest.approx(plain_loop(model, 1)[0], abs=1e-3)
