"""Bytes as a model's input: normalising pictures, which a recipe does last, becomes the first nodes of the graph.

The nodes compute what ``preprocess`` computes for files that take float32, in the same order, and so to the same bit:
over 255, minus mean, over standard deviation. The first is a Cast, because TensorRT does nothing else with bytes. If
recipes leave a margin beside pictures, what has its colour becomes zeros, which a margin is after normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from vimdeploy.model_info import ModelInfo
from vimdeploy.onnx_file import nodes_of_graph
from vimdeploy.recipe import CROP, Recipe


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
    steps = _Steps(name, info)
    for node in nodes_of_graph(graph):
        node.input[:] = [steps.last if read == name else read for read in node.input]
    nodes = [*steps.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.value_info.extend(steps.values)
    graph.initializer.extend(
        numpy_helper.from_array(values, f"{name}.{constant}") for constant, values in _constants(info.recipe).items()
    )
    [picture] = [value for value in graph.input if value.name == name]
    picture.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, info.picture.dims))
    return copy


def _constants(recipe: Recipe) -> dict[str, Any]:
    """What the steps read, by its name behind the input's; a value for each channel, or one for all."""
    by_channel = {"mean": recipe.mean, "std": recipe.std}
    if recipe.fit != CROP:
        by_channel["margin"] = recipe.margin
    constants = {part: np.array(values, np.float32)[:, None, None] for part, values in by_channel.items()}
    constants["largest_byte"] = np.array(255, np.float32)
    if recipe.fit != CROP:
        constants["channels"] = np.array([1])  # the axis
    return constants


class _Steps:
    """The nodes between bytes and normalised values; each gives one value of float32, which has its name."""

    def __init__(self, name: str, info: ModelInfo) -> None:
        assert info.picture is not None
        self._name = name
        self.nodes: list[NodeProto] = []
        self.values: list[ValueInfoProto] = []
        batch, _, height, width = dims = info.with_floats().inputs[0].dims
        self._add("Cast", [], "float32", info.picture.dims, to=TensorProto.FLOAT)
        self._add("Transpose", ["float32"], "channels_first", dims, perm=[0, 3, 1, 2])
        self._add("Div", ["channels_first", "largest_byte"], "in_one", dims)
        self._add("Sub", ["in_one", "mean"], "centred", dims)
        self._add("Div", ["centred", "std"], "normalised", dims)
        if info.recipe.fit != CROP:
            self._add("Sub", ["channels_first", "margin"], "from_margin", dims)
            self._add("Abs", ["from_margin"], "distance", dims)
            self._add("ReduceMax", ["distance", "channels"], "largest_distance", (batch, 1, height, width))
            self._add("Sign", ["largest_distance"], "is_picture", (batch, 1, height, width))
            self._add("Mul", ["normalised", "is_picture"], "with_margin", dims)

    @property
    def last(self) -> str:
        """The value that the model reads."""
        return self.nodes[-1].output[0]

    def _add(self, operator: str, read: Sequence[str], gives: str, dims: Sequence[int | str], **more: Any) -> None:
        given = f"{self._name}.{gives}"
        inputs = [f"{self._name}.{part}" for part in read] or [self._name]
        self.nodes.append(helper.make_node(operator, inputs, [given], given, **more))
        self.values.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, dims))
