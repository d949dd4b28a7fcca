"""What a policy's files tell of it, and that a policy of something else is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from booster_ray.config import ConfigError
from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate.export_command import main as export
from booster_ray.evaluate.target import Target, load_target
from booster_ray.policy import package
from booster_ray.policy.contract import check, contract_of, from_metadata, settings_from
from booster_ray.policy.onnx_file import write_joint_targets
from booster_ray.policy.played import JointTargets, Played
from booster_ray.policy.sai import Rejected
from booster_ray.policy.settings import Settings
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.soccer import game, observation
from policies import actor

FEATURES = ("egocentric", "clock", "previous_action")
SETTINGS = Settings(features=FEATURES, gait_frequency=2.0, action_scale=0.7)
STRIKER = Path(__file__).parents[2] / "policies" / "striker"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("contract") / "made"
    return package.write(directory, actor(FEATURES, reach=5.0), SETTINGS).directory


def told_by(path: Path) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = from_metadata(session.get_modelmeta().custom_metadata_map, "")
    assert told is not None
    return told


def test_every_number_is_named_with_its_unit_and_scale(made: Path) -> None:
    told = told_by(made / "joint_targets.onnx")
    assert (
        told == contract_of(SETTINGS) == json.loads((made / "package.json").read_text())["contract"]
    )
    assert told == told_by(made / "policy.onnx")
    parts, end = told["observation"], 0
    for part in parts:
        assert part["start"] == end
        end += part["size"]
        for key in ("unit", "scale"):
            values = part[key]
            assert not isinstance(values, list) or len(values) == part["size"], part
    assert end == SETTINGS.observation_size
    assert [part["name"] for part in parts] == [*observation.OFFICIAL, *FEATURES]
    assert {part["name"]: part["unit"] for part in parts}["ball_vel"] == "m/s"
    assert parts[-3]["scale"][6] == 0.2 and parts[-3]["unit"][6] == "m"
    assert told["joint_names"] == list(game.JOINTS) and told["control_rate"] == 50.0
    assert told["clock"] == {"frequency": 2.0}
    assert told["memory"] == {"previous_action": {"start": 100, "size": 12}}
    assert settings_from(told, "") == SETTINGS
    assert contract_of(Settings())["clock"] is contract_of(Settings())["memory"] is None


def test_units_stand_where_there_are_any() -> None:
    """What carries sensor noise is measured in something, but directions."""
    for name, part in observation.OFFICIAL.items():
        if part.noise and name != "gravity":
            assert part.unit != "1", name


def edited(source: Path, target: Path, change: dict[str, Any]) -> Path:
    """A file's copy that tells something else of itself."""
    model = onnx.load(source)
    told = {entry.key: entry.value for entry in model.metadata_props}
    told |= {k: v if v == "stiff" else json.dumps(v) for k, v in change.items()}
    onnx.helper.set_model_props(model, told)
    target.parent.mkdir(exist_ok=True)
    onnx.save(model, target)
    return target


def swapped(values: list[Any], i: int, j: int) -> list[Any]:
    values = list(values)
    values[i], values[j] = values[j], values[i]
    return values


WHOLE = contract_of(SETTINGS)
REFUSED = {
    "another joint order": (
        {"joint_names": swapped(WHOLE["joint_names"], 0, 6)},
        "joint_names: number 0 is Right_Hip_Pitch, expected Left_Hip_Pitch",
    ),
    "another gain": (
        {"kp": [*WHOLE["kp"][:3], 150.0, *WHOLE["kp"][4:]]},
        "kp: of Left_Knee_Pitch is 150.0, expected 200.0 N·m/rad",
    ),
    "another damping": ({"kd": [0.5] * 12}, "kd: of Left_Hip_Pitch is 0.5, expected 5.0 N·m·s/rad"),
    "another rate": ({"control_rate": 100.0}, "control_rate: is 100.0, expected 50.0 Hz"),
    "another pose": (
        {"default_pose": [0.0] * 12},
        "default_pose: of Left_Hip_Pitch is 0.0, expected -0.2 rad",
    ),
    "another order of parts": (
        {"observation": swapped(WHOLE["observation"], 2, 3)},
        "observation: number 24 begins gyro, expected gravity",
    ),
    "another unit": (
        {"observation": [WHOLE["observation"][0] | {"unit": "deg"}, *WHOLE["observation"][1:]]},
        "observation: joint_pos: unit is deg, expected rad",
    ),
    "a part less": (
        {"observation": WHOLE["observation"][:-1]},
        "observation: lacks previous_action, expected it at the end",
    ),
    "another clock": ({"clock": {"frequency": 1.5}}, 'clock: is {"frequency": 1.5}, expected'),
    "another robot": ({"robot": "Unitree G1"}, 'robot: is "Unitree G1", expected "Booster T1'),
    "another format": ({"format": "other/1"}, "metadata.format: is 'other/1', expected"),
    "no JSON": ({"kp": "stiff"}, "metadata.kp: is no JSON, expected a contract"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_policy_of_something_else_is_refused_by_name(
    made: Path, tmp_path: Path, case: str
) -> None:
    change, says = REFUSED[case]
    path = edited(made / "joint_targets.onnx", tmp_path / "alone.onnx", change)
    with pytest.raises(ConfigError) as refused:
        load_target(str(path))
    line = str(refused.value)
    assert line.startswith(f"{path}: {says}") and "\n" not in line


def test_a_world_of_another_control_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(made / "joint_targets.onnx", tmp_path))
    load_target(str(path), SETTINGS)
    for other, says in (
        (
            {"kp": (150.0,) * 6},
            "kp: of Left_Hip_Pitch is 200.0, expected 150.0 N·m/rad by --config",
        ),
        ({"decimation": 5}, "decimation: is 10, expected 5 by --config"),
        ({"action_scale": 0.5}, "action_scale: of Left_Hip_Pitch is 0.7, expected 0.5 rad by"),
        ({"features": ("egocentric",)}, "observation: has clock, previous_action too"),
        ({"gait_frequency": 1.5}, "clock: is"),
        ({"mode": "torque"}, 'control_mode: is "pd", expected "torque" by --config'),
    ):
        with pytest.raises(ConfigError) as refused:
            load_target(str(path), SETTINGS._replace(**other))  # type: ignore[arg-type]
        assert str(refused.value).startswith(f"{path}: {says}")


def test_a_package_of_another_robot_or_control_is_refused(made: Path, tmp_path: Path) -> None:
    for key, value, says in (
        ("joint_names", swapped(WHOLE["joint_names"], 1, 2), "number 1 is Left_Hip_Yaw"),
        ("kp", [100.0] * 12, "of Left_Hip_Pitch is 100.0, expected 200.0"),
        ("torque_limit", [90.0] * 12, "of Left_Hip_Pitch is 90.0, expected 45.0 N·m"),
    ):
        copy = Path(shutil.copytree(made, tmp_path / key))
        about = json.loads((copy / "package.json").read_text())
        about["contract"][key] = value
        (copy / "package.json").write_text(json.dumps(about))
        with pytest.raises(ConfigError) as refused:
            load_target(str(copy))
        assert str(refused.value).startswith(f"{copy}/package.json: contract: {key}: {says}")
    copy = Path(shutil.copytree(made, tmp_path / "onnx"))
    edited(made / "policy.onnx", copy / "policy.onnx", {"kp": [100.0] * 12})
    with pytest.raises(
        ConfigError, match=r"policy\.onnx: kp: of .* 200\.0 N·m/rad by package\.json"
    ):
        load_target(str(copy / "policy.onnx"))
    for missing in ("kp", "observation"):
        told = {key: value for key, value in WHOLE.items() if key != missing}
        with pytest.raises(ConfigError, match=f"{missing}: is missing from the policy's contract"):
            check(told, SETTINGS, "p")


def torques(target: Target, steps: int = 60) -> np.ndarray:
    """What it plays in the first steps of an episode of kick_to_target, float32 (steps, 12)."""
    from booster_ray.envs.official_view import official_view

    world = NativeWorld(
        ["kick_to_target"], 1, Settings().gains(), mode="newton_metres", decimation=1
    )
    world.reset(0, env_seeds=[3])
    player, kept = target.make_player(), []
    for _ in range(steps):
        torque = player(*official_view(world.frame(), "kick_to_target"))[0]
        kept.append(np.asarray(torque, np.float32))  # as the official environment takes them
        world.step(kept[-1][None])
    world.close()
    return np.stack(kept)


def test_joint_targets_play_as_the_package_to_the_bit(made: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(made / "joint_targets.onnx", tmp_path))
    whole = torques(load_target(str(made)))
    for path in (alone, made / "joint_targets.onnx"):
        np.testing.assert_array_equal(torques(load_target(str(path))), whole)


@pytest.mark.parametrize("activation", ["silu", "elu", "relu"])
def test_targets_of_every_network(tmp_path: Path, activation: str) -> None:
    policy = TorchActor(89, 12, [16], activation, layer_norm=activation != "relu", clip=10.0)
    policy.mlp.initialize(torch.Generator().manual_seed(1))
    with torch.no_grad():
        policy.mlp.head.weight *= 100
    path = tmp_path / "t.onnx"
    assert write_joint_targets(path, policy, Settings())
    x = np.random.default_rng(0).standard_normal((5, 89)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    target, action = session.run(None, {"observation": x})
    with torch.no_grad():
        wanted = JointTargets(Played(policy, Settings()))(torch.from_numpy(x))
    assert action.dtype == np.float32 and np.abs(action).max() > 0.1
    np.testing.assert_allclose(target, wanted[0].numpy(), atol=1e-7)
    model = onnx.load(path)
    assert model.opset_import[0].version <= 17 and model.ir_version <= 8
    assert not write_joint_targets(tmp_path / "none.onnx", policy, Settings(mode="torque"))
    assert not (tmp_path / "none.onnx").exists()


def test_a_package_of_an_older_release_is_given_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(STRIKER), "--output", str(tmp_path / "new")]) == 0
    assert "joint_targets.onnx" in capsys.readouterr().out
    for name in ("policy.pt", "preprocessor.py", "action_function.py"):
        assert (tmp_path / "new" / name).read_bytes() == (STRIKER / name).read_bytes()
    old, new = (json.loads((d / "package.json").read_text()) for d in (STRIKER, tmp_path / "new"))
    assert new["gates"] == old["gates"] and "contract" in new and "contract" not in old
    assert new["contract"] == told_by(tmp_path / "new" / "joint_targets.onnx")
    alone = load_target(str(tmp_path / "new" / "joint_targets.onnx"))
    wanted = torques(load_target(str(STRIKER)))
    np.testing.assert_array_equal(torques(alone), wanted)
    with pytest.raises(Rejected, match="exists"):
        package.renew(STRIKER, tmp_path / "new")
    (copy := tmp_path / "copy").mkdir()
    shutil.copytree(STRIKER, copy, dirs_exist_ok=True)
    old["config"]["sac"]["actor_hidden"] = [384, 256]
    (copy / "package.json").write_text(json.dumps(old))
    with pytest.raises(Rejected, match=r"policy\.pt: is not the network of package\.json"):
        package.renew(copy, tmp_path / "newer")
