"""ONNX -> a network of TensorRT, in which each of our operators is what the flavour wants: a plugin, or its body."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from vimdeploy.artifact import operator_counts
from vimdeploy.engine_file import sha256_of
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError
from vimdeploy.onnx_file import set_sizes
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.text import counted, shortened

if TYPE_CHECKING:
    import onnx


_WINDOWS_CRASH = 0xC0000000
"""Where the exit codes of crashed processes begin on Windows; elsewhere they are negative."""

_MOST_REASONS = 4
"""The reasons of a parser that are told; those that follow are mostly of the same kind."""


class ParsedNetwork(NamedTuple):
    """What Polygraphy's loaders pass on."""

    builder: Any
    network: Any
    parser: Any
    """Owns the weights."""


def parsed_network(
    trt: ModuleType, model: onnx.ModelProto, flavor: str, logger: Any, sizes: Mapping[str, int]
) -> ParsedNetwork:
    """The network of a model, strongly typed, with a plugin layer for each of our operators in flavour ``tensorrt``.

    Args:
        trt: the flavour's module.
        model: as the file has it.
        flavor: ``tensorrt`` or ``rtx``.
        logger: of ``flavors.collecting_logger``.
        sizes: of free dimensions that have one size alone, by their words; TensorRT need not compute with shapes then.

    Raises:
        ModelFileError: if the parser refuses the model, or takes an operator for something else than
            our plugin.
        ExecutionError: if TensorRT cannot start.
    """
    given = _with_one_meaning(model, flavor)
    for values in (given.graph.input, given.graph.output, given.graph.value_info):
        set_sizes(values, sizes)
    if flavor == "rtx":
        _try_to_parse(trt, given)
    try:
        builder = trt.Builder(logger)
    except Exception as error:  # if CUDA does not start, because of an old driver for example
        raise ExecutionError(f"TensorRT cannot start: {logger.reason()}") from error
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows no other networks
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(given.SerializeToString()):
        raise ModelFileError(f"The parser of TensorRT {trt.__version__} refuses the model: {_reasons(parser, logger)}")
    if flavor == "tensorrt":
        _check_plugins(trt, network, operator_counts(model))
    return ParsedNetwork(builder, network, parser)


_TRIAL = """
import sys
trt = __import__(sys.argv[1])
logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
trt.OnnxParser(network, logger).parse(sys.stdin.buffer.read())
"""


def _try_to_parse(trt: ModuleType, model: onnx.ModelProto) -> None:
    """Parse a model in a process of its own, because a parser that trips over one ends its process.

    Raises:
        ModelFileError: if that happens.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TRIAL, trt.__name__], input=model.SerializeToString(), capture_output=True, check=False
    )
    if done.returncode < 0 or done.returncode >= _WINDOWS_CRASH:  # else this process will find the same
        raise ModelFileError(
            f"The parser of TensorRT {trt.__version__} crashes on the model (exit code {done.returncode}), so there is "
            "something in it that it does not expect; export the model again."
        )


def _reasons(parser: Any, logger: Any) -> str:
    """Why a parser refused a model: the nodes, their operators, and what is wrong with each."""
    told = [_reason(parser.get_error(i)) for i in range(parser.num_errors)]
    # The importer logs the same again; what other parts of TensorRT log is the cause of it.
    causes = [line for line in logger.errors if told and not line.startswith("ModelImporter.cpp")]
    reasons = list(dict.fromkeys([*told, *causes])) or [logger.reason()]
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    return "; ".join([*(shortened(reason, 300) for reason in reasons[:_MOST_REASONS]), *more])


def _reason(error: Any) -> str:
    """One error of a parser. Its description may be no more than the condition that did not hold: ``false``."""
    node = f"node {error.node_name() or error.node()} ({error.node_operator()}), " if error.node() >= 0 else ""
    inside = "".join(f"in function {name}, " for name in error.local_function_stack())
    return f"{node}{inside}{error.func()}: {error.desc()}"


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


def weights_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """What training makes, by name: the stored tensors of floating-point numbers that are no single numbers."""
    from onnx import TensorProto

    types = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return {tensor.name: tensor for tensor in model.graph.initializer if tensor.dims and tensor.data_type in types}


def network_sha256(model: onnx.ModelProto) -> str:
    """The SHA-256 of a model without the values of its weights, and without what is said of it, in hexadecimal."""
    bare = type(model)(opset_import=model.opset_import)
    bare.graph.CopyFrom(model.graph)
    for weight in weights_of(bare).values():
        for values in ("raw_data", "float_data", "int32_data"):
            weight.ClearField(values)
    return sha256_of(bare.SerializeToString(deterministic=True))


def mark_weights(trt: ModuleType, network: Any, names: Iterable[str]) -> None:
    """Let an engine of a network take other weights.

    Raises:
        ConfigError: if this TensorRT cannot, or not with one of them.
    """
    if not hasattr(trt.BuilderFlag, "REFIT_INDIVIDUAL"):
        raise ConfigError(f"An engine that takes other weights needs TensorRT 10.3 or newer, found {trt.__version__}.")
    fixed = [name for name in names if not network.mark_weights_refittable(name)]
    if fixed:
        raise ConfigError(
            f"TensorRT {trt.__version__} makes {counted(len(fixed), 'weight')} of the model part of its code, so an "
            f"engine cannot take others: {shortened(', '.join(fixed))}. Build without --refittable."
        )


def _check_plugins(trt: ModuleType, network: Any, wanted: dict[str, int]) -> None:
    """Whether a network has a plugin layer for each of our operators.

    A layer's plugin does not tell its name before TensorRT 10.4, so the layers are counted.
    """
    layers = (network.get_layer(i) for i in range(network.num_layers))
    found = sum(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers)
    if found < sum(wanted.values()):
        raise ModelFileError(
            f"TensorRT {trt.__version__} has not taken our plugin for each of our operators: the file has "
            f"{wanted}, the network has {found} plugin layers; an engine of it would be slow or wrong."
        )
