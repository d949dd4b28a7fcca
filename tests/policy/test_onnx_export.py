"""The lowest ONNX that a graph needs is declared, and says the same."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from booster_ray.policy.actor_files import ONNX, save_actor
from booster_ray.policy.onnx_export import lower
from booster_ray.rl.torch_actor import TorchActor


def model(nodes: list[onnx.NodeProto], opset: int, extra: dict[str, int] | None = None):
    """A graph from `x` (n, 3) to `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    sets = [helper.make_opsetid("", opset)]
    sets += [helper.make_opsetid(domain, version) for domain, version in (extra or {}).items()]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


@pytest.mark.parametrize(
    ("operators", "opset", "expected"),
    [
        (["Tanh"], 20, 13),
        (["Tanh", "Add"], 18, 14),
        (["Tanh", "Softsign"], 21, 13),
        (["Tanh", "Softsign"], 22, 22),  # Softsign was defined anew in 22
        (["Gelu"], 20, 20),
        (["Tanh"], 11, 6),  # what is low already goes as low as it can
    ],
)
def test_the_newest_definition_in_use_is_declared(
    operators: list[str], opset: int, expected: int
) -> None:
    names = ["x", *(f"h{i}" for i in range(len(operators) - 1)), "y"]
    nodes = [
        helper.make_node(o, [names[i]] * (2 if o == "Add" else 1), [names[i + 1]])
        for i, o in enumerate(operators)
    ]
    made = model(nodes, opset)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    before = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    lower(made)
    assert made.opset_import[0].version == expected
    assert made.ir_version == helper.find_min_ir_version_for(list(made.opset_import)) <= 10
    onnx.checker.check_model(made, full_check=True)
    after = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(after, before)


def test_a_cast_asks_for_no_8_bit_floats() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    made = model(nodes, 19)
    lower(made)
    assert made.opset_import[0].version == 13
    onnx.checker.check_model(made, full_check=True)


def test_what_is_within_a_branch_counts_and_notes_go() -> None:
    inner = helper.make_node("Gelu", ["x"], ["b"])
    inner.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/me/secret.py"')
    branch = helper.make_graph(
        [inner], "then", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    condition = helper.make_node(
        "Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    made = model([condition, node], 20)
    lower(made)
    assert made.opset_import[0].version == 20
    assert b"secret" not in made.SerializeToString()


def test_operators_that_onnx_does_not_know_keep_their_set() -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("Own", ["h"], ["y"], domain="mine"),
    ]
    made = model(nodes, 20, {"mine": 3})
    lower(made)
    assert {e.domain: e.version for e in made.opset_import} == {"": 13, "mine": 3}


def test_a_converted_actor_asks_for_no_more_than_layer_normalization(tmp_path: Path) -> None:
    save_actor(TorchActor(89, 12, [16], clip=10.0), tmp_path / "a")
    made = onnx.load(tmp_path / "a" / ONNX)
    assert (made.opset_import[0].version, made.ir_version) == (17, 8)
