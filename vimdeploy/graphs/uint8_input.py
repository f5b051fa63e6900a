"""Bytes as a model's input: normalising pictures, which a recipe does last, becomes the first nodes of the graph.

The nodes compute what ``preprocess`` computes for files that take float32, in the same order, and so to the same bit:
over 255, minus mean, over standard deviation. The first is a Cast, because TensorRT does nothing else with bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vimdeploy.model_info import ModelInfo
from vimdeploy.onnx_file import nodes_of_graph


def with_uint8_input(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """A copy of a model that takes pictures (B, H, W, C) of uint8, and normalises them.

    Its metadata is still the model's.

    Args:
        model: takes normalised pictures (B, C, H, W) of float32.
        info: of the copy, as ``ModelInfo.with_bytes`` gives it.
    """
    assert info.picture is not None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, name = copy.graph, info.picture.name
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (info.recipe.mean, info.recipe.std))
    constants = {f"{name}.largest": np.array(255, np.float32), f"{name}.mean": mean, f"{name}.std": std}
    normalised = f"{name}.normalised"
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Cast", [name], f"{name}.float32", {"to": TensorProto.FLOAT}),
        ("Transpose", [f"{name}.float32"], f"{name}.channels_first", {"perm": [0, 3, 1, 2]}),
        ("Div", [f"{name}.channels_first", f"{name}.largest"], f"{name}.in_one", {}),
        ("Sub", [f"{name}.in_one", f"{name}.mean"], f"{name}.centred", {}),
        ("Div", [f"{name}.centred", f"{name}.std"], normalised, {}),
    )
    for node in nodes_of_graph(graph):
        node.input[:] = [normalised if read == name else read for read in node.input]
    nodes = [helper.make_node(operator, read, [given], given, **more) for operator, read, given, more in steps]
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(values, constant) for constant, values in constants.items())
    first, floats = info.picture.dims, info.with_floats().inputs[0].dims
    for _, _, given, _ in steps:
        dims = first if given == f"{name}.float32" else floats
        graph.value_info.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, dims))
    [picture] = [value for value in graph.input if value.name == name]
    picture.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, first))
    return copy
