"""PyTorch model -> ONNX, with our operators as single nodes and their meaning beside them as function bodies.

torch's exporter traces the model; its constants are folded, its nodes are named after the model's modules, and what it
tells of the machine it ran on is taken out.
"""

from __future__ import annotations

import ast
import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import nn

from vimdeploy.artifact import operator_counts
from vimdeploy.errors import ConfigError, require
from vimdeploy.exporters.tracing import quiet, traced
from vimdeploy.graphs.precision import lower_precision
from vimdeploy.graphs.simplify import simplified
from vimdeploy.model_info import BATCH, ModelInfo, SizeRange, TensorSpec
from vimdeploy.models import BACKBONE
from vimdeploy.models.stages import ROOT
from vimdeploy.ops.contract import OPERATORS
from vimdeploy.ops.function_body import function_protos
from vimdeploy.ops.schema import register_schemas
from vimdeploy.torch_module import FlatModule

if TYPE_CHECKING:
    import onnx_ir as ir

MIN_OPSET = 20
MAX_OPSET = 24
_INPUT_NAMES = {op.name: [value.name for value in op.inputs] for op in OPERATORS} | {"MatMul": ["input", "weight"]}
_IR_VERSION = 10
_NO_MODULE = "_empty_nn_module_stack"
"""What torch calls the scope of shapes that it looks at outside of all modules."""
_FOLD_LIMIT = 1 << 30
"""Elements of a constant that is still folded: all of them, for weights are stacked and transposed in the graph."""


def onnx_from_model(model: nn.Module, info: ModelInfo, opset: int = MIN_OPSET) -> onnx.ModelProto:
    """Trace a network to ONNX.

    Args:
        model: takes and gives what ``info`` says, in that order; calls ``vimdeploy.ops.torch_ops``. A ``FlatModule`` is
            traced with its examples, and the free dimensions of its outputs are found; our own, with zeros.
        info: what the file is to say of itself; its free dimensions stay free in the graph, its precision is the
            graph's, whatever the tensors hold: ``converted_onnx`` looks at them.
        opset: of the ONNX standard, 20 to 24.

    Returns:
        A checked model with a function body for each of our operators that it uses, and ``vimdeploy.*`` metadata.

    Raises:
        ConfigError: for another opset, or a weight too large for the precision.
        TracingError: if the model fixes a dimension that is to stay free, or cannot be traced at all.
        MissingPackageError: without onnxscript, on which torch's exporter stands.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise ConfigError(f"opset must be {MIN_OPSET} to {MAX_OPSET}, found {opset}.")
    onnx_ir = require("onnx_ir", "export")
    optimizer = require("onnxscript.optimizer", "export")
    dims: dict[str, Any] = {}
    is_flat = isinstance(model, FlatModule)
    examples = model.examples if isinstance(model, FlatModule) else [None] * len(info.inputs)
    program = traced(
        model.eval(),
        [_example(spec, info.sizes, given) for spec, given in zip(info.inputs, examples, strict=True)],
        [_free_dims(spec.dims, info.sizes, dims, in_steps=is_flat) for spec in info.inputs],
        ([spec.name for spec in info.inputs], [spec.name for spec in info.outputs]),
        opset,
    )
    with quiet():
        optimizer.optimize(program.model, input_size_limit=_FOLD_LIMIT, output_size_limit=_FOLD_LIMIT)
    if is_flat:
        simplified(program.model)
        _part_outputs(program.model.graph, [spec.name for spec in info.outputs])
        stored = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
        _name_after_modules(program.model, dict(stored), ROOT)
    else:
        _name_after_modules(program.model, dict(model.named_parameters()), BACKBONE)
    lower_precision(program.model, info.precision)
    proto: onnx.ModelProto = onnx_ir.to_proto(program.model)
    if is_flat:
        info = _with_free_dims(info, proto)
    _name_free_dims(proto, info)
    proto.ir_version = _IR_VERSION
    proto.producer_name, proto.producer_version = "vimdeploy", version("vimdeploy")
    used = operator_counts(proto)
    proto.functions.extend(f for f in function_protos(opset) if f.name in used)
    versions = {name: version(name) for name in ("vimdeploy", "torch", "onnx", "onnxscript")}
    info = dataclasses.replace(info, versions=versions)
    onnx.helper.set_model_props(proto, info.to_metadata())
    register_schemas()
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _example(spec: TensorSpec, sizes: Mapping[str, SizeRange], given: torch.Tensor | None) -> torch.Tensor:
    """An input to trace with: zeros, or the one that is given, twice if it is a batch of one that is to stay free."""
    if given is not None:
        return torch.cat([given, given]) if given.shape[:1] == (1,) and spec.dims[0] == BATCH else given
    shape = [dim if isinstance(dim, int) else _example_size(sizes.get(dim)) for dim in spec.dims]
    return torch.zeros(shape, dtype=getattr(torch, spec.type))


def _example_size(size: SizeRange | None) -> int:
    """What a free dimension is while torch traces: large enough that no map within the model is a single value, for
    torch takes a dimension of 1 for a fixed one.
    """
    return 2 if size is None else size.nearest(max(size.typical or 2, 4 * size.least))


def _free_dims(
    dims: tuple[int | str, ...], sizes: Mapping[str, SizeRange], known: dict[str, Any], in_steps: bool
) -> dict[int, Any]:
    """torch's names of the free dimensions of an input; one word is one dimension in all inputs.

    Our own models take steps for granted; torch must be told of those of others.
    """
    free = {}
    for axis, dim in enumerate(dims):
        if isinstance(dim, str):
            size = sizes.get(dim, SizeRange())
            step = size.step if in_steps else 1
            most = None if size.most is None else size.most // step
            named = torch.export.Dim(dim if step == 1 else f"_{dim}", min=size.least // step, max=most)
            free[axis] = known.setdefault(dim, named if step == 1 else step * named)
    return free


def _part_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give each output a value of its own: a module may give one tensor twice, and no file can."""
    onnx_ir = require("onnx_ir", "export")
    seen = set()
    for number, (value, name) in enumerate(zip(list(graph.outputs), names, strict=True)):
        if value in seen:
            copy = onnx_ir.node("Identity", [value])
            graph.append(copy)
            graph.outputs[number] = copy.outputs[0]
            copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
        seen.add(value)
        graph.outputs[number].name = name


def _name_after_modules(model: ir.Model, stored: Collection[str], prefix: str) -> None:
    """Name nodes, values and constants after the modules they come from, and drop the exporter's notes.

    A constant that the PyTorch model stores as it is keeps its name. The backbone's names are those of the released
    checkpoints, without ``backbone.``.

    The notes hold stack traces: paths of the machine that exported, which are nobody's business.

    Args:
        model: as torch exported it.
        stored: the names of the constants that keep them.
        prefix: of names, which is left out.
    """
    graph = model.graph
    outer = {value.name for value in (*graph.inputs, *graph.outputs)}
    taken = Counter(str(name) for name in outer)
    kept = {name: _unique(name.removeprefix(prefix), taken) for name in stored}
    names = set(kept.values())
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['']"))
        named = (scope for scope in reversed(scopes[:-1]) if scope and not scope.startswith(_NO_MODULE))
        module = next(named, "").removeprefix(prefix)
        if f"{module}." == ROOT == prefix:
            module = ""
        node.name = _unique(f"{module}.{node.op_type}".lstrip("."), taken)
        for i, value in enumerate(node.outputs):
            if value.name and value.name not in outer:  # an output without a name is one that nobody wants
                value.name = node.name if len(node.outputs) == 1 else _unique(f"{node.name}.output_{i}", taken)
        for i, constant in enumerate(node.inputs):
            if constant is None or not constant.is_initializer() or constant.is_graph_output():
                continue
            if constant.name in kept:
                constant.name = kept[constant.name]
            elif constant.name not in names:
                own = _INPUT_NAMES[node.op_type][i] if node.op_type in _INPUT_NAMES else "constant"
                constant.name = _unique(f"{node.name}.{own}", taken)
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    for item in (model, graph, *graph, *values):
        item.metadata_props.clear()


def _with_free_dims(info: ModelInfo, proto: onnx.ModelProto) -> ModelInfo:
    """What a file says of itself, with the free dimensions of the outputs that the trace found: words, or formulas."""
    outputs = []
    for spec, value in zip(info.outputs, proto.graph.output, strict=True):
        dims = tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        outputs.append(dataclasses.replace(spec, dims=dims))
    return dataclasses.replace(info, outputs=tuple(outputs))


def _name_free_dims(proto: onnx.ModelProto, info: ModelInfo) -> None:
    """Give inputs and outputs the words of the metadata; torch calls a free dimension by its formula.

    Raises:
        ConfigError: if torch has fixed a free dimension of an input.
    """
    for value, spec in zip(proto.graph.output, info.outputs, strict=True):
        for dim, word in zip(value.type.tensor_type.shape.dim, spec.dims, strict=True):
            if isinstance(word, str):
                dim.dim_param = word
    for value, spec in zip(proto.graph.input, info.inputs, strict=True):
        for dim, word in zip(value.type.tensor_type.shape.dim, spec.dims, strict=True):
            if isinstance(word, str) and not dim.dim_param:
                raise ConfigError(
                    f"The model does not leave {word} free: while it was traced, torch fixed the {word} of {spec.name} "
                    f"at {dim.dim_value}. Export it at a fixed size."
                )
            if isinstance(word, str):
                dim.dim_param = word


def _unique(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"
