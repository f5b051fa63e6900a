"""Linear layers as QuantizeLinear and DequantizeLinear around the product.

What ONNX Runtime and TensorRT both take: int8 with the zero at 0, one step for the input, one a column for the weight,
and a product that gives float32. Where a runtime has an int8 product, it fuses the four nodes; elsewhere they run as
they stand.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from vimdeploy.exporters.quantize.linears import Linear, linear_layers
from vimdeploy.exporters.quantize.scales import Scales

Constants = dict[str, npt.NDArray[np.generic]]


def with_int8(model: onnx.ModelProto, scales: Mapping[str, Scales]) -> onnx.ModelProto:
    """A copy of a model with some of its Linear layers in int8.

    What is new is named after the product: ``NAME.input.int8``, ``NAME.weight.scale`` ...; it reads ``NAME.input`` and
    ``NAME.weight``.

    Args:
        model: a float32 file of ours.
        scales: of the layers that are to be int8, by name.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    layers = {layer.name: layer for layer in linear_layers(model) if layer.name in scales}
    new: Constants = {}
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        if node.name in layers:
            nodes += _around(layers[node.name], scales[node.name], new)
            node.input[:] = [f"{node.name}.input", f"{node.name}.weight"]
        nodes.append(node)
    read = {name for node in nodes for name in node.input} - {name for node in nodes for name in node.output}
    left = [tensor for tensor in copy.graph.initializer if tensor.name in read]
    del copy.graph.node[:], copy.graph.initializer[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(left)
    copy.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in new.items())
    return copy


def _around(layer: Linear, scales: Scales, new: Constants) -> list[NodeProto]:
    """The nodes before a product; their constants are added to ``new``."""
    source, target, weight = layer.input, f"{layer.name}.input", f"{layer.name}.weight"
    nodes = []
    if scales.smoothing is not None:
        new[f"{target}.smoothing"] = 1 / scales.smoothing
        nodes.append(helper.make_node("Mul", [source, f"{target}.smoothing"], [f"{target}.smoothed"]))
        source = f"{target}.smoothed"
    new[f"{target}.scale"], new[f"{target}.zero_point"] = np.array(scales.input_step, np.float32), np.array(0, np.int8)
    new[f"{weight}.int8"], new[f"{weight}.scale"] = scales.int8_weight(layer.weight), scales.weight_steps
    new[f"{weight}.zero_point"] = np.zeros(len(scales.weight_steps), np.int8)
    of_input, of_weight = ([f"{name}.int8", f"{name}.scale", f"{name}.zero_point"] for name in (target, weight))
    nodes += [
        helper.make_node("QuantizeLinear", [source, *of_input[1:]], of_input[:1]),
        helper.make_node("DequantizeLinear", of_input, [target]),
        helper.make_node("DequantizeLinear", of_weight, [weight], axis=1),
    ]
    for node in nodes:
        node.name = node.output[0]
    return nodes
