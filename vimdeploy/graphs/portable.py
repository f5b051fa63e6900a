"""A model for runtimes that know the standard operators alone: no function, no free dimension, no arithmetic of shapes.

The graph is written anew, node by node. Our operators become what their function bodies say, whatever bodies the file
has; the type and shape of every value are inferred; what depends on sizes alone is computed and stored.

onnx's inliner does not serve here: a body whose steps are written out has to know the shapes of what it reads, so
bodies and shapes are worked out in one pass. And onnx folds no constants; optimizers that do come with PyTorch's
exporter, which ``convert`` does without, or leave operators of their own runtime behind.
"""

from __future__ import annotations

import dataclasses
import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.model_info import BATCH, PREFIX, ModelInfo, SizeRange, TensorSpec
from vimdeploy.onnx_file import set_sizes
from vimdeploy.ops.contract import DOMAIN, OPERATORS
from vimdeploy.ops.function_body import function_proto
from vimdeploy.text import reason_of

_STANDARD = ("", "ai.onnx")
"""The names of the standard's own domain."""
_COMPUTED = {
    *("Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "GreaterOrEqual", "Less"),
    *("MatMul", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "Reshape", "Slice", "Split", "Squeeze", "Sub"),
    *("Transpose", "Unsqueeze", "Where"),
}
"""Operators whose results are computed here if all their inputs are known."""
_LARGEST = 1 << 24
"""Elements of a result that is computed here."""
_MOST = 1 << 26
"""Elements of all different results that are computed here; what is beyond stays in the graph."""
_SMALL = 1 << 10
"""Elements of a constant whose values, not only its shape, tell the shape of what is made of it."""


def portable(
    model: onnx.ModelProto, batch: int | None = None, loops: bool = True, sizes: Mapping[str, int] | None = None
) -> onnx.ModelProto:
    """The same model in standard operators of fixed shapes.

    Args:
        model: a file of ours, in any precision.
        batch: that it is to take; None: 1, or the one that the file takes.
        loops: False writes the steps of the recurrence out, for runtimes without Scan.
        sizes: of the other free dimensions, by their words; None: the sizes that the file calls typical.

    Returns:
        A checked model without functions, its metadata as fixed as its graph.

    Raises:
        ConfigError: if a free dimension has no size, or not that one.
        ModelFileError: if the file is not ours, is portable already, has operators of another program, or contradicts
            itself.
    """
    info = ModelInfo.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    if info.form:
        raise ModelFileError(f"The file is {info.form} already; wanted the one that it was made from.")
    fixed = _chosen(info, batch, sizes or {})
    stored = {tensor.name for tensor in model.graph.initializer}  # which older files list among the inputs too
    given = [value for value in model.graph.input if value.name not in stored]
    inputs, outputs, inner = (
        _with_sizes(values, fixed) for values in (given, model.graph.output, model.graph.value_info)
    )
    graph = _Graph(model, {value.name: value.type for value in (*inner, *outputs, *inputs)}, loops)
    for node in model.graph.node:
        graph.add(node)

    made = onnx.ModelProto(
        ir_version=model.ir_version, producer_name=model.producer_name, producer_version=model.producer_version
    )
    made.opset_import.append(helper.make_opsetid("", graph.opset))
    made.graph.CopyFrom(graph.written([value.name for value in outputs]))
    made.graph.name = model.graph.name
    made.graph.input.extend(inputs)
    _restore_words(made.graph.output, outputs)
    info = _with_fixed_dims(info, fixed, made.graph, "portable" if loops else "unrolled")
    entries = {entry.key: entry.value for entry in model.metadata_props if not entry.key.startswith(PREFIX)}
    helper.set_model_props(made, entries | info.to_metadata())
    try:
        onnx.checker.check_model(made, full_check=True)
    except Exception as error:  # it has a type of its own, shape inference another
        raise ModelFileError(f"The portable model does not pass onnx's checker: {reason_of(error)}") from error
    return made


def _chosen(info: ModelInfo, batch: int | None, sizes: Mapping[str, int]) -> dict[str, int]:
    """The size of each free dimension of the inputs, by its word.

    Raises:
        ConfigError: if one has none, or not that one.
    """
    if batch is not None and not info.has_batch:
        raise ConfigError(f"Wanted a batch of {batch}; the model has none.")
    if batch is not None and info.fixed_batch not in (None, batch):
        raise ConfigError(f"Wanted a batch of {batch}; the file takes {info.fixed_batch} alone.")
    chosen: dict[str, int] = {}
    for word in (dim for spec in info.inputs for dim in spec.dims if isinstance(dim, str)):
        allowed = info.sizes.get(word, SizeRange())
        size = (1 if batch is None else batch) if word == BATCH else sizes.get(word, allowed.typical)
        if size is None:
            raise ConfigError(f"The model takes any {word}; say which, for in a portable file it is fixed.")
        if not allowed.allows(size):
            raise ConfigError(
                f"Wanted a {word} of {size}, the file takes {allowed}; the nearest is {allowed.nearest(size)}."
            )
        chosen[word] = size
    return chosen


def _with_sizes(values: Iterable[ValueInfoProto], sizes: Mapping[str, int]) -> list[ValueInfoProto]:
    """Copies of values with numbers for words."""
    copies = []
    for value in values:
        copy = ValueInfoProto()
        copy.CopyFrom(value)
        copies.append(copy)
    set_sizes(copies, sizes)
    return copies


def _restore_words(values: Iterable[ValueInfoProto], given: Iterable[ValueInfoProto]) -> None:
    """Give outputs whose size hangs on the pictures, such as detections, their words back.

    Raises:
        ModelFileError: if an output has other dimensions than the file says.
    """
    for value, before in zip(values, given, strict=True):
        found, said = value.type.tensor_type.shape.dim, before.type.tensor_type.shape.dim
        if len(found) != len(said):
            raise ModelFileError(
                f"The output {value.name} has {len(found)} dimensions, not {len(said)}, as the file says."
            )
        for dim, word in zip(found, said, strict=True):
            if not dim.HasField("dim_value"):
                dim.CopyFrom(word)


def _with_fixed_dims(info: ModelInfo, sizes: Mapping[str, int], graph: GraphProto, form: str) -> ModelInfo:
    """What the file says of itself: the numbers of the graph."""

    def fixed(specs: Iterable[TensorSpec], values: Iterable[ValueInfoProto]) -> tuple[TensorSpec, ...]:
        found = []
        for spec, value in zip(specs, values, strict=True):
            shape = value.type.tensor_type.shape.dim
            dims = [number.dim_value or word for word, number in zip(spec.dims, shape, strict=True)]
            found.append(dataclasses.replace(spec, dims=tuple(dims)))
        return tuple(found)

    left = {word: size for word, size in info.sizes.items() if word not in sizes}
    if BATCH in sizes and not info.task:
        left[BATCH] = SizeRange(sizes[BATCH], sizes[BATCH])
    return dataclasses.replace(
        info,
        inputs=fixed(info.inputs, graph.input),
        outputs=fixed(info.outputs, graph.output),
        sizes=left,
        form=form,
    )


class _Graph:
    """A graph that is being written."""

    def __init__(
        self,
        model: onnx.ModelProto,
        types: Mapping[str, TypeProto],
        loops: bool,
        outer: _Graph | None = None,
        outputs: Iterable[str] = (),
    ) -> None:
        """Begin with what is given.

        Args:
            model: that the graph is of.
            types: of values: those that are given, and what is known of others.
            loops: whether loops stay loops.
            outer: the graph around this one, whose values it may read; None for the model's own.
            outputs: of a graph inside of another.
        """
        self._model, self._loops = model, loops
        self._left: list[int] = outer._left if outer else [_MOST]  # elements to store yet, one number
        graph = model.graph
        self._kept = {*outputs, *(() if outer else (value.name for value in graph.output))}  # names that must stay
        self._nodes: list[NodeProto] = []
        self._renamed: MutableMapping[str, str] = ChainMap({}, outer._renamed if outer else {})
        self._types: MutableMapping[str, TypeProto] = ChainMap(dict(types), outer._types if outer else {})
        self._own: dict[str, TensorProto] = {} if outer else {tensor.name: tensor for tensor in graph.initializer}
        self._constants: MutableMapping[str, TensorProto] = ChainMap(self._own, outer._constants if outer else {})
        self._by_content: dict[tuple[int, tuple[int, ...], bytes], str] = {}
        for tensor in self._own.values():
            self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)

    def add(self, node: NodeProto) -> None:
        """Write a node, in whatever form it takes here."""
        if node.domain == DOMAIN:
            first = len(self._nodes)
            for inner in self._body(node):
                self.add(inner)
            self._name_after(node.output[0], self._nodes[first:])
            return
        if node.domain not in _STANDARD:
            raise ModelFileError(
                f"Its node {node.name} ({node.op_type}) is of {node.domain}, not of the ONNX standard."
            )
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._renamed.get(name, name) for name in node.input]
        if self._is_left_out(copy) or self._is_computed(copy):
            return
        for attribute in copy.attribute:
            if attribute.HasField("g"):
                attribute.g.CopyFrom(self._inner(copy, attribute.g))
        self._types.update(self._inferred(copy))
        self._nodes.append(copy)

    def written(self, outputs: Iterable[str]) -> GraphProto:
        """What was written, but for what no output needs; with the types of all values."""
        graph = GraphProto(output=[self._typed(name) for name in outputs])
        needed = {value.name for value in graph.output}
        nodes = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(_read(node))
                nodes.append(node)
        graph.node.extend(reversed(nodes))
        graph.initializer.extend(tensor for name, tensor in self._own.items() if name in needed)
        named = [name for node in graph.node for name in node.output if name]
        graph.value_info.extend(self._typed(name) for name in named if name not in self._kept and name in self._types)
        return graph

    def _typed(self, name: str) -> ValueInfoProto:
        return ValueInfoProto(name=name, type=self._types.get(name))

    def _type(self, name: str) -> TypeProto:
        """The type of a value.

        Raises:
            ModelFileError: if it is not known.
        """
        if name not in self._types:
            raise ModelFileError(f"The type of its value {name} is not known.")
        return self._types[name]

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a value; None if it is not known whole."""
        tensor = self._types[name].tensor_type if name in self._types else TypeProto.Tensor()
        if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            return None
        return tuple(dim.dim_value for dim in tensor.shape.dim)

    # -- what a node becomes

    def _body(self, node: NodeProto) -> Iterator[NodeProto]:
        """The nodes of the function body of one of our operators, in place of its node."""
        op = next((op for op in OPERATORS if op.name == node.op_type), None)
        if op is None or len(op.inputs) != len(node.input):
            raise ModelFileError(f"Its node {node.name} ({node.op_type}) is none of the operators of vimdeploy.")
        sizes: dict[str, int] | None = None
        if not self._loops:
            sizes = {}
            for value, name in zip(op.inputs, node.input, strict=True):
                shape = self._shape(self._renamed.get(name, name))
                if shape is None:
                    raise ModelFileError(f"The shape of {name} is not known, so the steps cannot be written out.")
                sizes |= dict(zip(value.dims, shape, strict=True))
        function = function_proto(op, self.opset, sizes)
        attributes = {attribute.name: attribute for attribute in (*function.attribute_proto, *node.attribute)}
        names = dict(zip((*function.input, *function.output), (*node.input, *node.output), strict=True))
        for inner in function.node:
            yield _instance(inner, f"{node.name}.", f"{op.name}_", names, attributes)

    def _name_after(self, output: str, nodes: Iterable[NodeProto]) -> None:
        """Give what an operator gave its name back if a node of the body gives it: stages are found by it."""
        inner = self._renamed.get(output, output)
        if inner != output and any(inner in node.output for node in nodes):
            del self._renamed[output]
            self._types[output] = self._types.pop(inner)
            for node in nodes:
                node.input[:] = [output if name == inner else name for name in node.input]
                node.output[:] = [output if name == inner else name for name in node.output]

    @property
    def opset(self) -> int:
        """The version of the standard."""
        return next(entry.version for entry in self._model.opset_import if entry.domain in _STANDARD)

    def _is_left_out(self, node: NodeProto) -> bool:
        """Whether a node gives what is there already; its readers then read that."""
        if node.op_type == "CastLike":
            _become_cast(node, self._type(node.input[1]).tensor_type.elem_type)
        same = ""
        if node.op_type == "Identity":
            same = node.input[0]
        elif node.op_type == "Cast" and node.input[0] in self._types:
            [to] = [attribute.i for attribute in node.attribute if attribute.name == "to"]
            same = node.input[0] if self._types[node.input[0]].tensor_type.elem_type == to else ""
        elif node.op_type == "Where" and node.input[0] in self._constants:
            condition = numpy_helper.to_array(self._constants[node.input[0]])
            if condition.size == 1:
                same = node.input[1 if condition.item() else 2]
                whole = self._inferred(node).get(node.output[0])  # which broadcasts both
                same = same if whole is not None and self._types.get(same) == whole else ""
        if not same or node.output[0] in self._kept:
            return False
        self._renamed[node.output[0]] = same
        return True

    def _is_computed(self, node: NodeProto) -> bool:
        """Whether all that a node gives is known; it is stored then."""
        if self._kept.intersection(node.output):
            return False
        if node.op_type == "Shape":
            shape = self._shape(node.input[0])
            if shape is None:
                return False
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            self._store(node.output[0], np.array(shape[ends.get("start", 0) : ends.get("end")], np.int64))
            return True
        if node.op_type != "Constant":
            if node.op_type not in _COMPUTED or not all(name in self._constants for name in node.input if name):
                return False
            self._types.update(self._inferred(node))
            shapes = [self._shape(name) for name in node.output]
            if any(shape is None or math.prod(shape) > min(_LARGEST, self._left[0]) for shape in shapes):
                return False
        constants = [self._constants[name] for name in node.input if name]
        alone = GraphProto(name="node", node=[node], initializer=constants)
        alone.output.extend(ValueInfoProto(name=name) for name in node.output)
        try:
            results = ReferenceEvaluator(self._model_of(alone)).run(None, {})
        except Exception as error:  # of numpy, and its own
            raise ModelFileError(f"Its node {node.name} ({node.op_type}) is wrong: {reason_of(error)}") from error
        for name, result in zip(node.output, results, strict=True):
            self._store(name, np.asarray(result))
        return True

    def _store(self, name: str, value: npt.NDArray[np.generic]) -> None:
        """Make a constant, or find the one that is equal."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        content = tensor.data_type, tuple(tensor.dims), tensor.raw_data
        first = self._by_content.setdefault(content, name)
        if first != name and name not in self._kept:
            self._renamed[name] = first
            return
        self._left[0] -= value.size
        self._own[name] = tensor
        self._types[name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)

    # -- graphs inside of nodes

    def _inner(self, node: NodeProto, graph: GraphProto) -> GraphProto:
        """The graph inside of a node, written anew."""
        same = self._without_constant_states(node, graph) if node.op_type == "Scan" else {}
        given = self._formals(node, graph) if node.op_type == "Scan" else list(graph.input)
        types = {value.name: value.type for value in (*given, *graph.value_info)}
        inner = _Graph(self._model, types, self._loops, self, [value.name for value in graph.output])
        for name, constant in same.items():
            inner._store(name, numpy_helper.to_array(self._constants[constant]))
        for tensor in graph.initializer:
            inner._store(tensor.name, numpy_helper.to_array(tensor))
        for each in graph.node:
            inner.add(each)
        written = inner.written([value.name for value in graph.output])
        written.name = graph.name
        written.input.extend(given)
        return written

    def _without_constant_states(self, node: NodeProto, graph: GraphProto) -> dict[str, str]:
        """Take the states of a Scan that are constants and stay as they are out of it: they can stand in its body.

        One state is left, or TensorRT refuses the node.

        Returns:
            The constants, by the names that the body has for them.
        """
        states = len(node.input) - next(a.i for a in node.attribute if a.name == "num_scan_inputs")
        copied = {each.output[0]: each.input[0] for each in graph.node if each.op_type == "Identity"}
        same: dict[str, str] = {}
        for i in reversed(range(states)):
            formal = graph.input[i].name
            if (
                node.input[i] in self._constants
                and copied.get(graph.output[i].name) == formal
                and len(same) < states - 1
            ):
                same[formal] = node.input[i]
                del node.input[i], node.output[i], graph.input[i], graph.output[i]
        return same

    def _formals(self, scan: NodeProto, body: GraphProto) -> list[ValueInfoProto]:
        """What a Scan gives to its body, with the types that follow from what it is given itself."""
        attributes = {attribute.name: attribute for attribute in scan.attribute}
        states = len(scan.input) - attributes["num_scan_inputs"].i
        axes = attributes["scan_input_axes"].ints if "scan_input_axes" in attributes else [0] * len(scan.input)
        formals = []
        for number, (formal, name) in enumerate(zip(body.input, scan.input, strict=True)):
            value = ValueInfoProto(name=formal.name, type=self._type(name))
            if number >= states and value.type.tensor_type.shape.dim:
                del value.type.tensor_type.shape.dim[axes[number - states]]
            formals.append(value)
        return formals

    # -- types

    def _inferred(self, node: NodeProto) -> dict[str, TypeProto]:
        """The types of what a node gives, as far as they follow from what it reads."""
        alone = GraphProto(name="node", node=[node], output=[ValueInfoProto(name=name) for name in node.output if name])
        for name in _read(node):
            if name in self._constants and math.prod(self._constants[name].dims) <= _SMALL:
                alone.initializer.append(self._constants[name])
            elif name in self._types:
                alone.input.append(self._typed(name))
        try:
            inferred = onnx.shape_inference.infer_shapes(self._model_of(alone))
        except Exception as error:  # it has a type of its own, protobuf another
            raise ModelFileError(f"Its node {node.name} ({node.op_type}) is wrong: {reason_of(error)}") from error
        for dim in (dim for value in inferred.graph.output for dim in value.type.tensor_type.shape.dim):
            dim.ClearField("dim_param")  # a word that is made up here would stand for another size elsewhere
        return {value.name: value.type for value in inferred.graph.output if value.type.WhichOneof("value")}

    def _model_of(self, graph: GraphProto) -> onnx.ModelProto:
        opsets = [helper.make_opsetid("", self.opset)]
        return onnx.ModelProto(ir_version=self._model.ir_version, graph=graph, opset_import=opsets)


def _read(node: NodeProto) -> list[str]:
    """The names that a node reads, in graphs inside of it too; those of the values there are among them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        names += [name for inner in attribute.g.node for name in _read(inner)]
        names += [value.name for value in attribute.g.output]
    return list(dict.fromkeys(names))


def _instance(
    node: NodeProto,
    prefix: str,
    dropped: str,
    names: MutableMapping[str, str],
    attributes: Mapping[str, AttributeProto],
) -> NodeProto:
    """A node of a function as one of a graph.

    Args:
        node: of the function.
        prefix: of the names there.
        dropped: what names in the function begin with.
        names: there, by the names in the function; filled with the new ones.
        attributes: of the node that the function stands for.
    """

    def renamed(name: str) -> str:
        return names.setdefault(name, prefix + name.removeprefix(dropped)) if name else ""

    instance = NodeProto()
    instance.CopyFrom(node)
    instance.name = prefix + node.name.removeprefix(dropped)
    instance.input[:] = map(renamed, node.input)
    instance.output[:] = map(renamed, node.output)
    for attribute in instance.attribute:
        if attribute.ref_attr_name:
            name = attribute.name
            attribute.CopyFrom(attributes[attribute.ref_attr_name])
            attribute.name = name
        graph = attribute.g
        for value in (*graph.input, *graph.output):
            value.name = renamed(value.name)
        inner = [_instance(each, prefix, dropped, names, attributes) for each in graph.node]
        if inner:
            del graph.node[:]
            graph.node.extend(inner)
            graph.name = prefix + graph.name.removeprefix(dropped)
    return instance


def _become_cast(node: NodeProto, to: int) -> None:
    """CastLike to Cast, for its second input stands for a type alone."""
    node.op_type = "Cast"
    del node.input[1:]
    node.attribute.append(helper.make_attribute("to", to))
