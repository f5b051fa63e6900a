"""Which call of our operators in a module's forward each operator node of its file is: found by their values.

Graph passes move nodes, merge them, and read tokens the other way round instead of flipping them, so neither names nor
order tell; a node of several groups may be as many calls. The scan of Vim's fused pair sums its calls and is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from vimdeploy.artifact import Artifact
from vimdeploy.models.stages import GROUP_AXES, CallPart, OperatorCall
from vimdeploy.ops import torch_ops
from vimdeploy.ops.contract import BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN, CAUSAL_CONV1D, DOMAIN
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array
from vimdeploy.runtimes.inner_values import inner_values
from vimdeploy.torch_module import FlatModule

_SAME = 1e-3
"""How far the values of a node and of the call that it is may be apart, relative to their root mean square."""
_CONVOLUTIONS = (CAUSAL_CONV1D.name, BIDIRECTIONAL_CONV1D.name)


class _Piece(NamedTuple):
    """One group of what a call gives."""

    number: int
    """Of the call."""
    group: int
    values: FloatArray
    """(B, L, E)."""


def calls_of_nodes(artifact: Artifact, module: FlatModule, inputs: Mapping[str, Array]) -> tuple[OperatorCall, ...]:
    """The operator nodes that are calls, in the order of the graph.

    Args:
        artifact: in float32, exported from the module.
        module: in eval mode.
        inputs: to compare the values on, by name.
    """
    nodes = [
        node for node in artifact.model.graph.node if node.domain == DOMAIN and node.op_type != BIDIRECTIONAL_SCAN.name
    ]
    if not nodes:
        return ()
    seen = _eager_values(module, [inputs[spec.name] for spec in artifact.info.inputs])
    values = next(iter(inner_values(artifact, [node.output[0] for node in nodes], [inputs])))
    left = {kind: _pieces(seen, axis) for kind, axis in GROUP_AXES.items()}
    calls: list[OperatorCall] = []
    for node in nodes:
        kind, value = "conv1d" if node.op_type in _CONVOLUTIONS else "scan", node.output[0]
        groups = np.moveaxis(values[value], GROUP_AXES[kind], 0)
        taken: dict[int, CallPart] = {}
        for group in groups:
            taken |= _found(group, {key: piece for key, piece in left[kind].items() if key not in taken})
        if len(taken) == len(groups):
            calls.append(OperatorCall(node.name, value, kind, tuple(taken.values())))
            for key in taken:
                del left[kind][key]
    return tuple(calls)


def _eager_values(module: FlatModule, tensors: Sequence[Array]) -> list[FloatArray]:
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
    size, sums = _SAME * float(np.sqrt(np.square(group).mean())), group.sum(axis=1)
    for key, piece in pieces.items():
        if piece.values.shape != group.shape or not _near(piece.values.sum(axis=1), sums, size * group.shape[1]):
            continue
        for is_flipped in (False, True):
            if _near(np.flip(piece.values, 1) if is_flipped else piece.values, group, size):
                return {key: CallPart(piece.number, piece.group, is_flipped)}
    return {}


def _near(found: FloatArray, wanted: FloatArray, size: float) -> bool:
    return float(np.abs(found - wanted).max(initial=0)) <= size
