"""Bytes -> an ONNX model, walked whole before anything believes or runs it.

What is refused here: files that are no ONNX, models that onnx's checker does not pass, tensors that are not what they
say or lie in other files, functions that call themselves or unfold to more nodes than any model has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from vimdeploy.errors import ModelFileError
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    import onnx

_MOST_NODES = 1_000_000
"""Nodes of a model whose functions are unfolded, as ONNX Runtime does it; a Vim-B at 1248 x 1248 has 10,000."""
_LARGEST = (1 << 31) - 1
"""Bytes of a message of protobuf."""


def parse(data: bytes, name: str) -> onnx.ModelProto:
    """A model out of a file's contents.

    Args:
        data: the contents.
        name: of the file, for messages.

    Raises:
        ModelFileError: if they are no ONNX model, or damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if data[4:8] == b"ORTM":
        raise ModelFileError(
            f"{name} is in ONNX Runtime's own format (.ort), which no other program reads; wanted the ONNX file that "
            "it was made from."
        )
    if len(data) > _LARGEST:
        raise ModelFileError(f"{name} has {len(data) / 2**30:.1f} GiB; ONNX files have at most 2.")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelFileError(
            f"{name} is no whole ONNX file ({len(data)} bytes were read): damaged, cut short, or something else."
        ) from error
    if not model.HasField("graph"):
        raise ModelFileError(f"{name} holds no graph: empty, damaged, or something else than an ONNX file.")
    return model


def check_model(model: onnx.ModelProto, ours: bool) -> None:
    """Walk a model whole.

    Args:
        model: any ONNX model.
        ours: whether vimdeploy wrote it. Other programs may keep tensors in files beside it, and use what the onnx
            package that is installed does not know yet: its checker is not asked.

    Raises:
        ModelFileError: the beginning of a sentence: what is wrong with it.
    """
    nodes = [*nodes_of_graph(model.graph), *(node for body in model.functions for node in _with_inner(body.node))]
    tensors = list(_tensors(model, nodes))
    _check_text(model, nodes, tensors)
    _check_interface(model.graph)
    sink = next((node for node in nodes if not any(node.output)), None)
    if sink is not None:  # which onnx's checker passes over if it does not know the operator; some parsers crash
        raise ModelFileError(f"its node {sink.name} ({sink.op_type}) has no output")
    for tensor in tensors:
        _check_tensor(tensor, ours)
    _check_functions(model)
    _check_unfolded(model)
    if ours:
        _check_by_onnx(model)


def nodes_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph, and of the graphs inside nodes."""
    return _with_inner(graph.node)


def _with_inner(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from _with_inner(graph.node)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def set_sizes(values: Iterable[onnx.ValueInfoProto], sizes: Mapping[str, int]) -> None:
    """Give the dimensions of values numbers in place of the words that have one."""
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def _tensors(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Every tensor that a model stores."""
    for graph in (model.graph, *(graph for node in nodes for graph in _graphs(node))):
        yield from graph.initializer
        yield from (part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices))
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse = [*attribute.sparse_tensors, *([attribute.sparse_tensor] * attribute.HasField("sparse_tensor"))]
            yield from (part for tensor in sparse for part in (tensor.values, tensor.indices))


def _check_text(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], tensors: Sequence[onnx.TensorProto]) -> None:
    """Whether all names are text: protobuf hands out what is not UTF-8 as bytes."""
    graph = model.graph
    texts = [
        *(text for entry in model.metadata_props for text in (entry.key, entry.value)),
        *(entry.domain for entry in model.opset_import),
        *(text for node in nodes for text in (node.name, node.op_type, node.domain, *node.input, *node.output)),
        *(attribute.name for node in nodes for attribute in node.attribute),
        *(value.name for value in (*graph.input, *graph.output, *graph.value_info)),
        *(dim.dim_param for value in (*graph.input, *graph.output) for dim in value.type.tensor_type.shape.dim),
        *(text for function in model.functions for text in (function.name, function.domain)),
        *(tensor.name for tensor in tensors),
    ]
    if any(isinstance(text, bytes) for text in texts):
        raise ModelFileError("a name in it is not UTF-8: it is damaged")


def _check_interface(graph: onnx.GraphProto) -> None:
    for what, values in (("inputs", graph.input), ("outputs", graph.output)):
        if not values:
            raise ModelFileError(f"its graph has no {what}")
        for value in values:
            kind = value.type.WhichOneof("value")
            if kind not in ("tensor_type", None):
                raise ModelFileError(f"{value.name}, one of its {what}, is a {kind.removesuffix('_type')}, no tensor")


def _check_tensor(tensor: onnx.TensorProto, ours: bool) -> None:
    """Whether a tensor has as many bytes as its shape and type want, in the file itself."""
    import onnx

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if ours:
            raise ModelFileError(
                f"it keeps {tensor.name or 'a tensor'} in another file, which files of vimdeploy never do; export it "
                "again"
            )
        _check_location(tensor)
        return
    if any(size < 0 for size in tensor.dims):
        raise ModelFileError(f"the tensor {tensor.name} has the shape {list(tensor.dims)}")
    if tensor.HasField("raw_data"):
        try:
            bits = _bits(tensor.data_type)
        except KeyError as error:
            raise ModelFileError(f"the tensor {tensor.name} is of a type that is unknown here") from error
        wanted = (math.prod(tensor.dims) * bits + 7) // 8
        if len(tensor.raw_data) != wanted:
            raise ModelFileError(
                f"the tensor {tensor.name} wants {wanted} bytes for its shape and type, and has {len(tensor.raw_data)}"
            )


def _bits(data_type: int) -> int:
    """The bits of an element.

    Raises:
        KeyError: for a type that is not known, or has no fixed size.
    """
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type) if data_type in onnx.TensorProto.DataType.values() else ""
    packed = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
    if name in packed:
        return packed[name]
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8


def _check_location(tensor: onnx.TensorProto) -> None:
    """Whether the other file that holds a tensor lies in the model's folder: nothing else is the model's to read."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    parts = location.replace("\\", "/").split("/")
    if not location or parts[0] == "" or ":" in parts[0] or ".." in parts:
        raise ModelFileError(f"it keeps {tensor.name or 'a tensor'} in {location!r}, outside its own folder")


def _check_functions(model: onnx.ModelProto) -> None:
    """Whether functions give what they promise; onnx's checker does not look."""
    for function in model.functions:
        given = {*function.input, *(name for node in function.node for name in node.output)}
        lost = [name for name in function.output if name not in given]
        if lost:
            raise ModelFileError(f"no node of its function {function.name} gives the output {lost[0]}")


def _check_unfolded(model: onnx.ModelProto) -> None:
    """Bound the nodes of a model whose functions are unfolded: a few kilobytes can hold a function of 2^40."""
    functions = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Sequence[onnx.NodeProto], within: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in _with_inner(nodes):
            called = (node.domain, node.op_type)
            if called in within:
                raise ModelFileError(f"its function {node.op_type} calls itself")
            if called in functions and called not in sizes:
                if len(within) > 100:
                    raise ModelFileError("its functions call each other more than 100 deep")
                sizes[called] = size(functions[called], within | {called})
            total += 1 + sizes.get(called, 0)
            if total > _MOST_NODES:
                raise ModelFileError(f"its functions unfold to more than {_MOST_NODES:,} nodes")
        return total

    size(model.graph.node, frozenset())


def _check_by_onnx(model: onnx.ModelProto) -> None:
    """Let onnx's checker see a copy whose weights are inputs: it serialises what it checks, and reads no weights."""
    import onnx
    from onnx import checker, helper

    copy = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    copy.graph.name = model.graph.name or "graph"
    copy.graph.node.extend(model.graph.node)
    copy.graph.input.extend(model.graph.input)
    copy.graph.output.extend(model.graph.output)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.SetInParent()  # which some tools drop
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in given:
            copy.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for sparse in model.graph.sparse_initializer:
        copy.graph.input.append(helper.make_tensor_value_info(sparse.values.name, sparse.values.data_type, sparse.dims))
    try:
        checker.check_model(copy)
    except Exception as error:  # it has a type of its own, protobuf another
        raise ModelFileError(f"it does not pass onnx's checker: {reason_of(error)}") from error
