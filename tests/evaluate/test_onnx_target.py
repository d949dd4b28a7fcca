"""ONNX files that are evaluated: our own, those of others, and those that cannot be played."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from booster_ray.cli import guarded
from booster_ray.config import Config, ConfigError
from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate.command import main
from booster_ray.evaluate.play import Episode, play_native, play_official
from booster_ray.evaluate.target import Target, actor_target, load_target
from booster_ray.policy import package
from booster_ray.policy.actor_files import ONNX, quiet_exporters, save_actor
from booster_ray.policy.model import pack
from booster_ray.policy.onnx_export import export_onnx
from booster_ray.policy.player import Player
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.soccer import game
from policies import actor, save_checkpoint, tiny_config

FEATURES = ("egocentric", "clock", "previous_action")


STEPS = 60
"""Of 2 ms; later, what float32 rounds off has grown."""


class Enough(Exception):
    """So many steps are all that is compared."""


def played(target: Target) -> list[Episode]:
    return play_native([0], target.make_player, tasks=["goalie"])


def torques(target: Target, tasks: Sequence[str]) -> np.ndarray:
    """What it plays in the first steps (STEPS, tasks, 12)."""
    kept: list[np.ndarray] = []

    def watched() -> Player:
        play = target.make_player()

        def act(observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
            kept.append(np.array(play(observation, info)))
            return kept[-1]

        return act

    def stop(steps: int, of: int) -> None:
        if steps == STEPS:
            raise Enough

    with pytest.raises(Enough):
        play_native([0], watched, tasks=tasks, progress=stop)
    return np.concatenate(kept).reshape(STEPS, len(tasks), 12)


def assert_alike(ours: Target, theirs: Target, tasks: Sequence[str] = ("goalie",)) -> None:
    """The same torques; what float32 rounds off grows with time."""
    one, other = torques(ours, tasks), torques(theirs, tasks)
    assert (np.abs(one).max(axis=(0, 2)) > 5).all()  # it moves
    np.testing.assert_allclose(one, other, atol=0.05)
    np.testing.assert_allclose(one[:2], other[:2], atol=1e-3)


@pytest.mark.parametrize("names", [(), FEATURES])
def test_the_file_of_a_package_plays_as_the_package(names: tuple[str, ...], tmp_path: Path) -> None:
    settings = Settings(features=names, gait_frequency=2.0, action_scale=0.7)
    package.write(tmp_path / "p", actor(names, reach=5.0), settings)
    file = load_target(str(tmp_path / "p" / "policy.onnx"))
    assert file.kind == "onnx"
    assert_alike(file, load_target(str(tmp_path / "p")), game.TASKS if names else ["goalie"])
    (one,) = play_official([0], file.make_player, tasks=["obstacle"])
    (other,) = play_native([0], file.make_player, tasks=["obstacle"])
    assert one.seconds == other.seconds and one.score == pytest.approx(other.score, abs=1e-6)


def test_the_file_of_a_converted_actor_and_of_a_registered_model(tmp_path: Path) -> None:
    control = {"action_scale": 0.3, "kp": [90.0] * 6}
    config = Config.model_validate(
        tiny_config(FEATURES).to_dict() | {"control": Config().control.model_dump() | control}
    )
    kept = save_checkpoint(tmp_path / "run" / "best_000000000001", config)
    checkpoint = load_target(str(kept))
    pack(kept, tmp_path / "run", tmp_path / "model")
    assert_alike(load_target(str(tmp_path / "model" / "policy.onnx")), checkpoint)
    policy = actor(FEATURES, reach=5.0)
    save_actor(policy, tmp_path / "actor", {"config": config.to_dict()})
    direct = actor_target("direct", policy, settings_of(config), None)
    assert_alike(load_target(str(tmp_path / "actor" / ONNX)), direct)


def exported(path: Path, policy: TorchActor, size: int) -> Path:
    with quiet_exporters():
        export_onnx(path, policy, size, "observation", ["action"])
    return path


def test_a_bare_file_acts_under_the_default_control_or_that_of_a_config(tmp_path: Path) -> None:
    policy = actor(reach=5.0)
    path = exported(tmp_path / "mine.onnx", policy, 89)
    assert_alike(load_target(str(path)), actor_target("direct", policy, Settings(), None))
    other = Settings(mode="torque", decimation=4)
    assert_alike(load_target(str(path), other), actor_target("direct", policy, other, None))
    clocked = actor(("clock",), reach=5.0)
    path = exported(tmp_path / "clock.onnx", clocked, 91)
    with_clock = Settings(features=("clock",))
    assert_alike(load_target(str(path), with_clock), actor_target("", clocked, with_clock, None))


def test_config_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path / "mine.onnx", actor(("clock",)), 91)
    (tmp_path / "c.yaml").write_text("observation: {features: [clock]}\ncontrol: {decimation: 5}\n")
    argv = [str(tmp_path / "mine.onnx"), "--episodes", "1"]
    assert guarded(lambda: main(argv)) == 2
    line = capsys.readouterr().err
    assert "takes observation float[batch, 91], gives action float[batch, 12]" in line
    assert "expected one input [n, 89]" in line and line.count("\n") == 1
    assert guarded(lambda: main([*argv, "--config", str(tmp_path / "c.yaml")])) == 0
    assert "goalie" in capsys.readouterr().out
    for target in ("policies:falling", str(tmp_path)):
        argv = [target, "--config", str(tmp_path / "c.yaml")]
        assert guarded(lambda argv=argv: main(argv)) == 2
        assert f"--config: is not for {target}" in capsys.readouterr().err


# -- graphs by hand --------------------------------------------------------------------------------


def linear(
    path: Path,
    size: int,
    kind: int = TensorProto.FLOAT,
    batch: Any = "n",
    gives: str = "action",
    scale: float = 0.05,
    more: str | None = None,
) -> Path:
    """A file that multiplies (batch, size) by a matrix (size, 12) that seed 0 draws."""
    number = helper.tensor_dtype_to_np_dtype(kind)
    matrix = scale * np.random.default_rng(0).standard_normal((89, 12))[:size]
    shape = [size] if batch is None else [batch, size]
    nodes = [helper.make_node("MatMul", ["x", "w"], [gives])]
    outputs = [helper.make_tensor_value_info(gives, kind, [*shape[:-1], 12])]
    if more:
        nodes.append(helper.make_node("Neg", [gives], [more]))
        outputs.append(helper.make_tensor_value_info(more, kind, [*shape[:-1], 12]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        outputs,
        [numpy_helper.from_array(matrix.astype(number), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("kind", "batch"),
    [
        (TensorProto.FLOAT, 1),
        (TensorProto.FLOAT, 2),
        (TensorProto.FLOAT, None),
        (TensorProto.DOUBLE, "n"),
        (TensorProto.DOUBLE, 1),
    ],
)
def test_any_batch_and_float_plays_the_same(kind: int, batch: Any, tmp_path: Path) -> None:
    usual = load_target(str(linear(tmp_path / "usual.onnx", 89)))
    odd = load_target(str(linear(tmp_path / "odd.onnx", 89, kind, batch)))
    first, second = (
        play_native([0, 1, 2], t.make_player, tasks=["kick_to_target"], keep_torques=True)
        for t in (usual, odd)
    )
    for one, other in zip(first, second, strict=True):
        assert one.torques is not None and other.torques is not None
        np.testing.assert_allclose(one.torques[:60], other.torques[:60], atol=0.01)


def test_torques_and_official_observations_without_the_task(tmp_path: Path) -> None:
    """What is played is what a plain loop over the file's matrix gives."""
    matrix = np.random.default_rng(0).standard_normal((89, 12)).astype(np.float32)
    gains = Settings().gains()
    for size in (86, 87):
        path = linear(tmp_path / f"{size}.onnx", size, gives="torque", scale=1.0)
        (told,) = play_native(
            [0], load_target(str(path)).make_player, tasks=["obstacle"], keep_torques=True
        )
        assert told.torques is not None
        world = NativeWorld(["obstacle"], 1, gains, mode="newton_metres", decimation=1)
        seen = world.reset(0, env_seeds=[0])
        for torque in told.torques[:50]:
            row = np.concatenate([seen[0, :86], [1.0]])[:size].astype(np.float32)
            np.testing.assert_allclose(torque, row @ matrix[:size], atol=1e-2, rtol=1e-4)
            seen = world.step(torque[None]).observation
        world.close()


def test_of_several_outputs_the_one_named_action(tmp_path: Path) -> None:
    alone = load_target(str(linear(tmp_path / "a.onnx", 89)))
    path = linear(tmp_path / "b.onnx", 89, more="deviation")
    assert played(load_target(str(path))) == played(alone)


REFUSED = {
    "a package's without its package": (
        lambda path: export_package_file(path),
        r"takes told float\[batch, 113\], gives torque .*, action .*beside its package.json",
    ),
    "another size": (
        lambda path: linear(path, 45),
        r"takes x float\[n, 45\], gives action float\[n, 12\], expected one input \[n, 89\]",
    ),
    "several outputs": (
        lambda path: linear(path, 89, gives="mean", more="deviation"),
        r"gives mean .* deviation .* of several the one named action",
    ),
    "whole numbers": (
        lambda path: linear(path, 89, TensorProto.INT32),
        r"takes x int32\[n, 89\].*expected one input of floats",
    ),
    "a text": (lambda path: path.write_text("pickle"), "onnxruntime cannot load it"),
    "nothing": (lambda path: path.write_bytes(b""), "onnxruntime cannot load it"),
}


def export_package_file(path: Path) -> None:
    package.write(path.with_suffix(""), actor(), Settings())
    shutil.move(path.with_suffix("") / "policy.onnx", path)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_played_is_one_line(case: str, tmp_path: Path) -> None:
    write, says = REFUSED[case]
    path = tmp_path / "policy.onnx"
    write(path)
    with pytest.raises(ConfigError, match=says) as refused:
        load_target(str(path))
    line = str(refused.value)
    assert line.startswith(str(path)) and "\n" not in line


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    path = linear(tmp_path / "p.onnx", 89)
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 64]))
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"takes x .*, h float\[1, 64\]"):
        load_target(str(path))


def test_a_file_that_does_not_fit_its_package(tmp_path: Path) -> None:
    package.write(tmp_path / "p", actor(), Settings())
    path = linear(tmp_path / "p" / "other.onnx", 89)
    with pytest.raises(ConfigError, match=r"expected one input \[n, 113\] and torque \[n, 12\]"):
        load_target(str(path))
    with pytest.raises(ConfigError, match="--config: is not for"):
        load_target(str(tmp_path / "p" / "policy.onnx"), Settings())


def test_numbers_that_are_not_finite_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = linear(tmp_path / "p.onnx", 89, scale=float("nan"))
    assert guarded(lambda: main([str(path), "--episodes", "1"])) == 2
    line = capsys.readouterr().err
    assert "p.onnx: the policy's torques are not finite" in line and line.count("\n") == 1
