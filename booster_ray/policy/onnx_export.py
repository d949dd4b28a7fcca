"""Torch modules as ONNX files that old runtimes take: a robot's computer is not updated often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    import onnx


def export_onnx(
    path: Path,
    module: nn.Module,
    width: int,
    taken: str,
    given: Sequence[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a module of one input (n, width) float32, for any n, in the lowest ONNX it needs.

    Args:
        path: of the file.
        module: what is written.
        width: numbers in a row of its input.
        taken: name of the input.
        given: names of the outputs.
        metadata: what the file tells of itself.

    Raises:
        OSError: it cannot be written.
    """
    import onnx

    program = torch.onnx.export(
        module,
        (torch.zeros(2, width),),
        dynamo=True,
        input_names=[taken],
        output_names=list(given),
        # By place: the argument of forward() bears a name of its own.
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    lower(model)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


UNCHANGED = {"Cast": 13}
"""Sets whose definition says the same as newer ones: those are about 8-bit floats alone."""


def lower(model: onnx.ModelProto) -> None:
    """Declare, in place, the lowest operator set and file format that say the same.

    An exporter declares the set that it was written for, though most operators have not changed
    for years. A set defines an operator by its newest definition up to the set's number, so all
    sets from the newest definition in use up to the declared one read the same from the graph.
    Notes about torch's own graph, which name files of whoever exported it, are left out.
    """
    import onnx

    declared = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    needed = dict.fromkeys(declared, 1)
    for node in _nodes(model):
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        domain = node.domain or "ai.onnx"
        if onnx.defs.has(node.op_type, node.domain):
            schema = onnx.defs.get_schema(node.op_type, declared[domain], node.domain)
            since = min(schema.since_version, UNCHANGED.get(node.op_type, schema.since_version))
            needed[domain] = max(needed[domain], since)
        else:  # a function of the model's own, or nothing that ONNX knows: as it was declared
            needed[domain] = declared[domain]
    for entry in model.opset_import:
        entry.version = needed[entry.domain or "ai.onnx"]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    # A function's own sets and a quantized type would ask for more; an actor has neither.
    if not model.functions:
        sets = list(model.opset_import)
        model.ir_version = onnx.helper.find_min_ir_version_for(sets, ignore_unknown=True)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of loops and branches too."""
    waiting = [*model.graph.node]
    for function in model.functions:
        waiting += function.node
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node
