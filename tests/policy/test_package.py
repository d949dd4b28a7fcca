"""A package is written whole or not at all; what sai_rl would refuse is refused first."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from booster_ray.config import ConfigError
from booster_ray.evaluate.play import play_native
from booster_ray.evaluate.target import actor_target, checkpoint_actor, load_target
from booster_ray.policy import onnx_file, package
from booster_ray.policy.played import Played, make_played
from booster_ray.policy.sai import Rejected
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.rl.ddpg.learner import Ddpg
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.store import checkpoint
from policies import actor, save_checkpoint, tiny_config

FEATURES = ("egocentric", "clock", "previous_action")
SETTINGS = Settings(features=FEATURES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packages") / "made"
    return package.write(directory, actor(FEATURES), SETTINGS, {"from": "here"}).directory


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_what_is_in_it(made: Path) -> None:
    names = {p.name for p in made.iterdir()}
    assert names == {
        *("package.json", "policy.pt", "preprocessor.py", "action_function.py"),
        *("policy.onnx", "joint_targets.onnx"),
    }
    about = json.loads((made / "package.json").read_text())
    assert about["from"] == "here" and about["settings"]["features"] == list(FEATURES)
    assert about["onnx_is_submittable"] is False
    assert about["sha256"]["policy.pt"] == package.sha256(made / "policy.pt")
    assert [p.name for p in made.parent.iterdir()] == ["made"]


def test_it_plays_as_the_policy_does(made: Path) -> None:
    policy = actor_target("policy", actor(FEATURES), SETTINGS, None)
    ours = play_native([0, 1], policy.make_player, tasks=["goalie"])
    assert play_native([0, 1], load_target(str(made)).make_player, tasks=["goalie"]) == ours
    assert ours[0].seconds < 9  # it moves


@pytest.mark.parametrize("activation", ["silu", "elu", "relu"])
def test_onnx_gives_the_same_torques(tmp_path: Path, activation: str) -> None:
    policy = TorchActor(89, 12, [16], activation, layer_norm=activation != "relu", clip=10.0)
    policy.mlp.initialize(torch.Generator().manual_seed(1))
    onnx_file.write_onnx(tmp_path / "p.onnx", policy, Settings())
    session = onnxruntime.InferenceSession(str(tmp_path / "p.onnx"))
    module = make_played(policy, Settings())
    for n in (1, 5):
        x = np.random.default_rng(n).standard_normal((n, 113)).astype(np.float32)
        torque, action = session.run(None, {"told": x})
        with torch.no_grad():
            np.testing.assert_allclose(torque, module(torch.from_numpy(x)).numpy(), atol=1e-3)
            np.testing.assert_allclose(action, policy(torch.from_numpy(x[:, :89])), atol=1e-5)


OLDEST = {"opset": 17, "ir": 8}
"""What onnxruntime 1.16 and 1.12 take; torch's exporter declares 18 or 20, and 10."""


def declared(path: Path) -> dict[str, int]:
    """What a file asks of a runtime, once it is known to be whole."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert b".py" not in path.read_bytes()  # no notes on files of whoever exported it
    (opset,) = model.opset_import
    return {"opset": opset.version, "ir": model.ir_version}


@pytest.mark.parametrize(
    ("names", "learner", "activation"),
    [
        ((), "sac", "silu"),
        (FEATURES, "ddpg", "silu"),
        (("clock",), "bare", "elu"),
        (("previous_action",), "sac", "relu"),
        ((), "ddpg", "elu"),
    ],
)
def test_the_runtime_of_a_robots_computer_takes_the_onnx_file(
    tmp_path: Path, names: tuple[str, ...], learner: str, activation: str
) -> None:
    config = tiny_config(
        names, activation=activation, layer_norm=activation != "relu",
        normalize_observations=learner != "bare",
    )  # fmt: skip
    kept = save_checkpoint(tmp_path / "sac", config)
    if learner == "ddpg":
        leaves = Ddpg(config.ddpg, checkpoint_actor(kept).module, seed=0).state()
        kept = tmp_path / "ddpg"
        checkpoint.save(kept, {"learner": leaves}, {"config": config.to_dict()})
    loaded, settings = checkpoint_actor(kept), settings_of(config)
    onnx_file.write_onnx(tmp_path / "p.onnx", loaded.module, settings)
    found = declared(tmp_path / "p.onnx")
    # Layer normalization came with 17; a network without it needs less still.
    assert found == (OLDEST if activation != "relu" else {"opset": 14, "ir": 7})
    session = onnxruntime.InferenceSession(str(tmp_path / "p.onnx"))
    width = settings.observation_size + 24
    told = np.random.default_rng(0).standard_normal((6, width)).astype(np.float32)
    with torch.no_grad():
        wanted = Played(loaded.module, settings)(torch.from_numpy(told)).numpy()
    np.testing.assert_allclose(session.run(None, {"told": told})[0], wanted, atol=1e-3)


def test_the_onnx_file_of_the_policy_in_the_repository() -> None:
    folder = Path(__file__).parents[2] / "policies" / "striker"
    about = json.loads((folder / "package.json").read_text())
    assert {n: package.sha256(folder / n) for n in about["sha256"]} == about["sha256"]
    assert declared(folder / "policy.onnx") == OLDEST
    loaded = package.load(folder)
    told = np.random.default_rng(0).standard_normal((6, 138)).astype(np.float32)
    told[:, 100:112], told[:, -2:] = 0.0, 1.0  # the first step: no action was before
    with torch.no_grad():
        wanted = loaded.make_player().model(torch.from_numpy(told)).numpy()
    session = onnxruntime.InferenceSession(str(folder / "policy.onnx"))
    np.testing.assert_allclose(session.run(None, {"told": told[:, :-2]})[0], wanted, atol=1e-3)


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    with pytest.raises(Rejected, match="exists"):
        package.write(tmp_path / "mine", actor(), Settings())
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes"]


def test_a_policy_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"shape|size"):
        package.write(tmp_path / "p", actor(("clock",)), Settings())
    assert list(tmp_path.iterdir()) == []


BREAKS = {
    "no preprocessor": ("preprocessor.py", None, "missing"),
    "no action function": ("action_function.py", None, "missing"),
    "no policy": ("policy.pt", None, "missing"),
    "a function first": ("preprocessor.py", "def f():\n    pass\n", "begins with the function"),
    "an import": (
        "preprocessor.py",
        "import math\nclass P:\n    size = math.pi\n",
        "NameError.*strips imports",
    ),
    "no method": ("preprocessor.py", "class P:\n    pass\n", "P has no method modify_state"),
    "no function": ("action_function.py", "x = 1\n", "has no function"),
    "no syntax": ("action_function.py", "def f(x:\n", "SyntaxError"),
    "another format": ("package.json", '{"format": "other/1"}', "format is 'other/1'"),
    "not JSON": ("package.json", '{"format": ', "cut short"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_part_that_sai_rl_would_refuse(copied: Path, case: str) -> None:
    name, text, says = BREAKS[case]
    if text is None:
        (copied / name).unlink()
    else:
        (copied / name).write_text(text)
    with pytest.raises(ConfigError, match=says) as refused:
        package.load(copied)
    line = str(refused.value)
    assert name in line and "\n" not in line


@pytest.mark.parametrize("kept", [0, 100, -10])
def test_a_truncated_policy(copied: Path, kept: int) -> None:
    whole = (copied / "policy.pt").read_bytes()
    (copied / "policy.pt").write_bytes(whole[:kept])
    with pytest.raises(Rejected, match=r"policy\.pt: not a TorchScript file") as refused:
        package.load(copied)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "preprocessor.py",
            "class P:\n    def modify_state(self, obs, info):\n        return obs[:, :5]\n",
            r"does not take the preprocessor's output",
        ),
        (
            "preprocessor.py",
            "class P:\n    def modify_state(self, obs, info):\n        return info['wheels']\n",
            r"KeyError: 'wheels'",
        ),
        (
            "preprocessor.py",
            "class P:\n    def modify_state(self, obs, info):\n        return list(obs)\n",
            r"gives a list, expected a NumPy array",
        ),
        ("action_function.py", "def f(policy):\n    return policy[:, :3]\n", r"\(3, 3\)"),
        ("action_function.py", "def f(policy):\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("action_function.py", "def f(policy):\n    return policy + np.nan\n", "not finite"),
    ],
)
def test_code_that_fails_when_it_plays(copied: Path, name: str, text: str, says: str) -> None:
    (copied / name).write_text(text)
    with pytest.raises(Rejected, match=says) as refused:
        package.rehearse(package.load(copied))
    line = str(refused.value)
    assert line.startswith(f"{copied}: goalie: ") and "\n" not in line
