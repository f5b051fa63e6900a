"""ONNX -> a network of TensorRT, in which each of our operators is what the flavour wants: a plugin, or its body."""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from vimdeploy.artifact import operator_counts
from vimdeploy.errors import ExecutionError, ModelFileError
from vimdeploy.ops.contract import DOMAIN

if TYPE_CHECKING:
    import onnx


class ParsedNetwork(NamedTuple):
    """What Polygraphy's loaders pass on."""

    builder: Any
    network: Any
    parser: Any
    """Owns the weights."""


def parsed_network(trt: ModuleType, model: onnx.ModelProto, flavor: str, logger: Any) -> ParsedNetwork:
    """The network of a model, strongly typed, with a plugin layer for each of our operators in flavour ``tensorrt``.

    Raises:
        ModelFileError: if the parser refuses the model, or takes an operator for something else than our plugin.
        ExecutionError: if TensorRT cannot start.
    """
    try:
        builder = trt.Builder(logger)
    except Exception as error:  # if CUDA does not start, because of an old driver for example
        raise ExecutionError(f"TensorRT cannot start: {logger.reason()}") from error
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows no other networks
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    wanted = operator_counts(model) if flavor == "tensorrt" else {}
    if not parser.parse(_with_one_meaning(model, flavor).SerializeToString()):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)] or [logger.reason()]
        raise ModelFileError(f"The parser of TensorRT {trt.__version__} refuses the model: {reasons[0]}")
    found = _plugin_layers(trt, network)
    if found != wanted:
        raise ModelFileError(
            f"TensorRT {trt.__version__} has not taken our plugin for each of our operators: the file has "
            f"{dict(wanted)}, the network has plugin layers {dict(found)}; an engine of it would be slow or wrong."
        )
    return ParsedNetwork(builder, network, parser)


def _with_one_meaning(model: onnx.ModelProto, flavor: str) -> onnx.ModelProto:
    """A copy of a model that leaves the parser no choice between our plugins and the function bodies."""
    copy = type(model)()
    copy.CopyFrom(model)
    if flavor == "tensorrt":
        # Before TensorRT 10.7 the body is taken, whatever the node asks for.
        del copy.functions[:]
        return copy
    for node in copy.graph.node:
        if node.domain == DOMAIN:
            # Led to a plugin, which it has no layer for, the parser of TensorRT-RTX 1.7 ends the process.
            kept = [attribute for attribute in node.attribute if not attribute.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(kept)
    return copy


def _plugin_layers(trt: ModuleType, network: Any) -> dict[str, int]:
    """How many layers of each plugin a network has."""
    counts: Counter[str] = Counter()
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        if layer.type == trt.LayerType.PLUGIN_V3:
            layer.__class__ = trt.IPluginV3Layer  # the network gives every layer as an ILayer
            counts[layer.plugin.get_capability_interface(trt.PluginCapabilityType.CORE).plugin_name] += 1
    return dict(counts)
