"""Linear layers as QuantizeLinear and DequantizeLinear around the product, by ONNX Runtime's quantizer.

What ONNX Runtime and TensorRT both take: int8 with the zero at 0, one step for the input, one per column of the weight,
and a product that gives float32. If a runtime has an int8 product, it fuses the four nodes; otherwise they run as
they stand.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vimdeploy.converters.quantize.linears import linear_layers
from vimdeploy.converters.quantize.scales import LEVELS, Scales
from vimdeploy.errors import ModelFileError
from vimdeploy.files import temporary_files
from vimdeploy.text import reason_of


def with_int8(model: onnx.ModelProto, scales: Mapping[str, Scales]) -> onnx.ModelProto:
    """A copy of a model with some of its Linear layers in int8.

    Args:
        model: a float32 file of ours: the types of its values are in it.
        scales: by the names of the layers that are to be int8; at least one.

    Raises:
        ModelFileError: if a value is of another type than the model says.
        OutputError: if temporary files cannot be written.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    smoothed = _smoothed(model, scales)
    inputs = {node.name: node.input[0] for node in smoothed.graph.node if node.name in scales}
    largest = {value: np.float32(scales[name].input_step * LEVELS) for name, value in inputs.items()}
    try:
        with temporary_files():  # which the quantizer writes, to infer shapes
            quantizer = QDQQuantizer(
                smoothed,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8,
                tensors_range=TensorsData(
                    CalibrationMethod.MinMax, {value: (-end, end) for value, end in largest.items()}
                ),
                nodes_to_quantize=list(scales),
                nodes_to_exclude=[],
                op_types_to_quantize=["MatMul"],
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "OpTypesToExcludeOutputQuantization": ["MatMul"],
                },
            )
    except onnx.shape_inference.InferenceError as error:
        raise ModelFileError(f"The model's values are not of the types that it says: {reason_of(error)}") from error
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    quantized.producer_name, quantized.producer_version = model.producer_name, model.producer_version
    return quantized


def _smoothed(model: onnx.ModelProto, scales: Mapping[str, Scales]) -> onnx.ModelProto:
    """A copy of a model, with the channels of the layers' inputs evened out: ``NAME.smoothed``, by a Mul."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    layers = {layer.name: layer for layer in linear_layers(model)}
    graph = model.graph
    types = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    nodes = []
    for node in copy.graph.node:
        smoothing = scales[node.name].smoothing if node.name in scales else None
        if smoothing is not None:
            name, layer = f"{node.name}.smoothed", layers[node.name]
            constants = {f"{name}.constant": 1 / smoothing, f"{name}.weight": layer.weight * smoothing[:, None]}
            copy.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
            nodes.append(helper.make_node("Mul", [layer.input, f"{name}.constant"], [name], name))
            copy.graph.value_info.add().CopyFrom(types[layer.input])
            copy.graph.value_info[-1].name = name
            node.input[:] = [name, f"{name}.weight"]
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
