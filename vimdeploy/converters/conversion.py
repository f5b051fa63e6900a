"""Float32 file -> float16 or bfloat16, and in float32 the nodes whose tensors the type cannot hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching

import onnx
from onnx import numpy_helper

from vimdeploy.artifact import Artifact, artifact_from_onnx
from vimdeploy.converters.ranges import MARGIN, Range, RangeTally
from vimdeploy.errors import ConfigError, ModelFileError, require
from vimdeploy.graphs.precision import lower_precision, nodes_by_value_in_t
from vimdeploy.model_info import PRECISIONS, PREFIX, ModelInfo
from vimdeploy.ops.schema import register_schemas
from vimdeploy.runtimes.base import Array
from vimdeploy.runtimes.inner_values import inner_values
from vimdeploy.tasks import task_of
from vimdeploy.text import reason_of

ASKED = "asked for"
"""The reason of a node that a person wants in float32."""


@dataclass(frozen=True)
class ConvertedModel:
    """A file in another precision, in memory."""

    artifact: Artifact
    """Its info's ``kept_in_float32`` says which nodes are not in that precision, and why."""
    ranges: Mapping[str, Range]
    """The range of each tensor that would be stored in the precision, weights included, in the order of the graph."""


def converted_onnx(
    artifact: Artifact, precision: str, batches: Iterable[Mapping[str, Array]], keep: Sequence[str] = ()
) -> ConvertedModel:
    """Bring a float32 file to float16 or bfloat16.

    Looks at each tensor that would be stored in the type: weights as they are, inner values as sample inputs give them.
    A node stays in float32 if the type cannot hold a tensor that it makes or takes, and only then: keeping fewer would
    not do, because each of them would have to round the tensor.

    Args:
        artifact: a float32 file of ours.
        precision: ``fp16`` or ``bf16``.
        batches: sample inputs by name, at least one; all inner values of a batch are in memory at once.
        keep: names of further nodes to keep in float32; ``*`` stands for anything.

    Raises:
        ModelFileError: if the model is not in float32.
        ConfigError: for a name in ``keep`` that no node has which would be in the type, or if no node has.
        MissingPackageError: without onnx_ir.
        ExecutionError: if ONNX Runtime gives up.
    """
    model, info = artifact.model, artifact.info
    if info.precision != "fp32":
        raise ModelFileError(f"Wanted a file in fp32, found one in {info.precision}: what that rounded is lost.")
    onnx_ir = require("onnx_ir", "export")
    try:
        graph = onnx_ir.from_proto(model)
    except Exception as error:  # it has no common base, and says what is malformed
        raise ModelFileError(f"{artifact} cannot be read as a graph: {reason_of(error)}") from error
    nodes = nodes_by_value_in_t(graph, precision)
    if not nodes:
        raise ConfigError(
            f"Nothing in the model would be in {precision}: it has no products or operators of ours but those that "
            "give its outputs, which stay in float32."
        )
    in_t = [node for of_value in nodes.values() for node in of_value]
    asked = _of_task(info, in_t) | _asked_for(keep, in_t)
    ranges = _ranges(artifact, nodes, PRECISIONS[precision], batches)
    reasons = asked | _reasons(nodes, ranges)
    kept = {node.name: reasons[node.name] for node in model.graph.node if node.name in reasons}
    lower_precision(graph, precision, kept)
    info = dataclasses.replace(info, precision=precision, kept_in_float32=kept)
    converted: onnx.ModelProto = onnx_ir.to_proto(graph)
    return ConvertedModel(finished(converted, info, model), ranges)


def finished(converted: onnx.ModelProto, info: ModelInfo, original: onnx.ModelProto) -> Artifact:
    """A converted model with what it says of itself, checked; entries of other programs in the original's stay.

    Raises:
        ModelFileError: if types or shapes in it contradict each other, as they may in a file that another tool changed.
    """
    entries = {entry.key: entry.value for entry in original.metadata_props if not entry.key.startswith(PREFIX)}
    onnx.helper.set_model_props(converted, entries | info.to_metadata())
    register_schemas()
    try:
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # it has a type of its own, shape inference another
        raise ModelFileError(f"The converted model does not pass onnx's checker: {reason_of(error)}") from error
    return artifact_from_onnx(converted)


def _asked_for(keep: Sequence[str], nodes: Collection[str]) -> dict[str, str]:
    """The nodes that a person wants in float32, with the reason."""
    asked: dict[str, str] = {}
    for pattern in keep:
        found = matching(nodes, pattern)
        if not found:
            raise ConfigError(
                f"No node matches {pattern!r}. Nodes that you can keep in float32 include: "
                f"{', '.join(list(dict.fromkeys(nodes))[:4])} ..."
            )
        asked |= dict.fromkeys(found, ASKED)
    return asked


def _of_task(info: ModelInfo, nodes: Collection[str]) -> dict[str, str]:
    """The nodes that the model's task wants in float32, with the reason."""
    task = task_of(info)
    patterns = task.in_float32 if task is not None else {}
    return {node: reason for pattern, reason in patterns.items() for node in matching(nodes, pattern)}


def _ranges(
    artifact: Artifact, names: Iterable[str], type_name: str, batches: Iterable[Mapping[str, Array]]
) -> dict[str, Range]:
    """The range of each tensor: weights, inner values, inputs."""
    weights = {tensor.name: tensor for tensor in artifact.model.graph.initializer}
    tallies = {name: RangeTally(type_name, 1 if name in weights else MARGIN) for name in names}
    for name in tallies.keys() & weights.keys():
        tallies[name].add(numpy_helper.to_array(weights[name]))
    inner = [name for name in tallies if name not in weights]
    for values in inner_values(artifact, inner, batches):
        for name in inner:
            tallies[name].add(values[name])
    return {name: tally.result() for name, tally in tallies.items()}


def _reasons(nodes: Mapping[str, Sequence[str]], ranges: Mapping[str, Range]) -> dict[str, str]:
    """The nodes that make or take a tensor which the type cannot hold, with the first such tensor and its fault."""
    reasons: dict[str, str] = {}
    for tensor, of_tensor in nodes.items():
        fault = ranges[tensor].fault
        if fault is not None:
            reasons = dict.fromkeys(of_tensor, f"{tensor} {fault}") | reasons
    return reasons
