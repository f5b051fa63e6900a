"""Which call of our operators in a module's forward each operator node of its file is: found by their values.

Graph passes move nodes, merge them, and read tokens the other way round instead of flipping them, so neither names nor
order tell. Nodes of the fused pair of Vim compute several calls together, and are none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vimdeploy.artifact import Artifact
from vimdeploy.models.stages import OperatorCall
from vimdeploy.ops import torch_ops
from vimdeploy.ops.contract import BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN, CAUSAL_CONV1D, DOMAIN
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array
from vimdeploy.runtimes.inner_values import inner_values
from vimdeploy.torch_module import FlatModule

_FUSED = (BIDIRECTIONAL_CONV1D.name, BIDIRECTIONAL_SCAN.name)
_SAME = 1e-3
"""How far the values of a node and of the call that it is may be apart, relative to their root mean square."""
_TOKENS = 2
"""The axis of the tokens in what both operators give."""


def calls_of_nodes(artifact: Artifact, module: FlatModule, inputs: Mapping[str, Array]) -> tuple[OperatorCall, ...]:
    """The operator nodes that are single calls, in the order of the graph.

    Args:
        artifact: in float32, exported from the module.
        module: in eval mode.
        inputs: to compare the values on, by name.
    """
    nodes = {
        node.output[0]: node
        for node in artifact.model.graph.node
        if node.domain == DOMAIN and node.op_type not in _FUSED
    }
    if not nodes:
        return ()
    seen = _eager_values(module, [inputs[spec.name] for spec in artifact.info.inputs])
    values = next(iter(inner_values(artifact, list(nodes), [inputs])))
    calls: list[OperatorCall] = []
    left = dict(enumerate(seen))
    for value, node in nodes.items():
        is_conv = node.op_type == CAUSAL_CONV1D.name
        for number, eager in left.items():
            flipped = _flipped(values[value], eager, 0 if is_conv else 1)
            if flipped is not None:
                calls.append(OperatorCall(node.name, value, "conv1d" if is_conv else "scan", number, flipped))
                del left[number]
                break
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


def _flipped(found: FloatArray, wanted: FloatArray, axis: int) -> tuple[int, ...] | None:
    """The groups of a node whose tokens are last to first in the call; None if the values are not the same."""
    if found.shape != wanted.shape:
        return None
    size = _SAME * float(np.sqrt(np.square(wanted).mean())) if wanted.size else 0.0
    flipped = []
    for group in range(wanted.shape[axis]):
        ours, theirs = found.take(group, axis), wanted.take(group, axis)
        if np.abs(ours - theirs).max(initial=0) > size:
            if np.abs(ours - np.flip(theirs, _TOKENS - 1)).max(initial=0) > size:
                return None
            flipped.append(group)
    return tuple(flipped)
