"""Which steps of a module the operator nodes of its file are, found by their values.

Graph passes move nodes, merge them, and read tokens the other way round instead of flipping them, so neither names nor
order tell. A node is a call of our operators in the module's forward, or, if it has several groups, several of them.
The scan of Vim's fused pair, which gates and sums its calls, is none; what is compared in its place is the nearest
module behind it whose output is a value of the file, such as out_proj.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch

from vimdeploy.artifact import Artifact
from vimdeploy.models.stages import GROUP_AXES, ROOT, CallPart, ModuleOutput, OperatorCall, Step
from vimdeploy.ops import torch_ops
from vimdeploy.ops.contract import BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN, CAUSAL_CONV1D, DOMAIN
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array
from vimdeploy.runtimes.inner_values import inner_values
from vimdeploy.torch_module import FlatModule

_SAME = 1e-3
"""How far the values of a node and of the step that it is may be apart, relative to their root mean square."""
_BEHIND = 12
"""Values behind a node that are tried: a module's output is soon among them, or is in none."""
_CONVOLUTIONS = (CAUSAL_CONV1D.name, BIDIRECTIONAL_CONV1D.name)


class _Piece(NamedTuple):
    """One group of what a call gives."""

    number: int
    """The call's."""
    group: int
    values: FloatArray
    """(B, L, E)."""


def steps_of_nodes(artifact: Artifact, module: FlatModule, inputs: Mapping[str, Array]) -> tuple[tuple[Step, ...], int]:
    """The steps that the operator nodes are, in the order of the graph, and how many nodes are none.

    Args:
        artifact: in float32, exported from the module.
        module: in eval mode.
        inputs: to compare the values on, by name.
    """
    graph = artifact.model.graph
    nodes = [node for node in graph.node if node.domain == DOMAIN]
    behind = {node.output[0]: list(islice(_values_behind(graph, node), _BEHIND)) for node in nodes}
    names = dict.fromkeys(name for value, others in behind.items() for name in (value, *others))
    values = next(iter(inner_values(artifact, list(names), [inputs])))
    tensors = [inputs[spec.name] for spec in artifact.info.inputs]
    calls = _calls(nodes, values, _given_by_calls(module, tensors))
    others = [behind[node.output[0]] for node in nodes if node.output[0] not in calls]
    wanted = {name: values[name] for names_behind in others for name in names_behind}
    modules = _given_by_modules(module, tensors, wanted)
    nearest = [next((name for name in names_behind if name in modules), "") for names_behind in others]
    steps: dict[str, Step] = {**calls, **{name: ModuleOutput(modules[name], name) for name in nearest if name}}
    order = {name: number for number, node in enumerate(graph.node) for name in node.output}
    return tuple(steps[value] for value in sorted(steps, key=order.__getitem__)), nearest.count("")


def _values_behind(graph: onnx.GraphProto, start: onnx.NodeProto) -> Iterator[str]:
    """The float32 values that come of a node's, the nearest first."""
    known = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    known |= {value.name for value in graph.output if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    waiting, seen = list(start.output), set(start.output)
    while waiting:
        value = waiting.pop(0)
        for node in graph.node:
            if value in node.input:
                new = [name for name in node.output if name in known and name not in seen]
                seen |= set(new)
                waiting += new
                yield from new


def _calls(
    nodes: Sequence[onnx.NodeProto], values: Mapping[str, FloatArray], seen: Sequence[FloatArray]
) -> dict[str, OperatorCall]:
    """The nodes that are calls, by the values that they give."""
    left = {kind: _pieces(seen, axis) for kind, axis in GROUP_AXES.items()}
    calls: dict[str, OperatorCall] = {}
    for node in nodes:
        kind, value = "conv1d" if node.op_type in _CONVOLUTIONS else "scan", node.output[0]
        if node.op_type == BIDIRECTIONAL_SCAN.name:
            continue
        groups = np.moveaxis(values[value], GROUP_AXES[kind], 0)
        taken: dict[int, CallPart] = {}
        for group in groups:
            taken |= _found(group, {key: piece for key, piece in left[kind].items() if key not in taken})
        if len(taken) == len(groups):
            calls[value] = OperatorCall(node.name, value, kind, tuple(taken.values()))
            for key in taken:
                del left[kind][key]
    return calls


def _given_by_modules(module: FlatModule, tensors: Sequence[Array], wanted: Mapping[str, FloatArray]) -> dict[str, str]:
    """For each of the values that a module gives, the path of the innermost such module; without those run twice."""
    found: dict[str, str] = {}
    runs: Counter[str] = Counter()

    def look(path: str, given: Any) -> None:
        runs[path] += 1
        first = given[0] if isinstance(given, tuple) and given else given
        if isinstance(first, torch.Tensor) and first.dtype == torch.float32:
            values = first.numpy()
            for name, value in wanted.items():
                if name not in found and value.shape == values.shape and _near(values, value, _size_of(value)):
                    found[name] = path

    with ExitStack() as hooks:
        for path, part in module.named_modules():
            if path.startswith(ROOT):
                hook = part.register_forward_hook(lambda *seen, path=path: look(path, seen[2]))
                hooks.callback(hook.remove)
        with torch.inference_mode():
            module(*map(torch.tensor, tensors))
    return {name: path.removeprefix(ROOT) for name, path in found.items() if runs[path] == 1}


def _given_by_calls(module: FlatModule, tensors: Sequence[Array]) -> list[FloatArray]:
    """What each call of our operators gives, in their order."""
    seen: list[FloatArray] = []

    def keep(number: int, tensor: torch.Tensor) -> torch.Tensor:
        seen.append(tensor.float().numpy().copy())
        return tensor

    with torch.inference_mode(), torch_ops.observed(keep):
        module(*map(torch.tensor, tensors))
    return seen


def _pieces(seen: Sequence[FloatArray], axis: int) -> dict[int, _Piece]:
    """The groups of all calls, if they lie along an axis; numbered."""
    pieces = (
        _Piece(number, group, piece)
        for number, values in enumerate(seen)
        for group, piece in enumerate(np.moveaxis(values, axis, 0))
    )
    return dict(enumerate(pieces))


def _found(group: FloatArray, pieces: Mapping[int, _Piece]) -> dict[int, CallPart]:
    """The first of the pieces that a node's group is, or the same with its tokens the other way round."""
    size, sums = _size_of(group), group.sum(axis=1)
    for key, piece in pieces.items():
        if piece.values.shape != group.shape or not _near(piece.values.sum(axis=1), sums, size * group.shape[1]):
            continue
        for is_flipped in (False, True):
            if _near(np.flip(piece.values, 1) if is_flipped else piece.values, group, size):
                return {key: CallPart(piece.number, piece.group, is_flipped)}
    return {}


def _size_of(wanted: FloatArray) -> float:
    """How far the values of the same step may be apart."""
    return _SAME * float(np.sqrt(np.square(wanted).mean()))


def _near(found: FloatArray, wanted: FloatArray, size: float) -> bool:
    return float(np.abs(found - wanted).max(initial=0)) <= size
