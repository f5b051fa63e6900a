"""The weights stored in a file against those of the model it should hold.

A weight that is off by 1 % hides among the roundings of a float16 file's answers; here it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from vimdeploy.models.stages import StageSpec
from vimdeploy.parity.results import WeightCheck, WeightDifference

Array = npt.NDArray[Any]
_LAST_BITS = 2.0**-21
"""How much of a value computed at export (A = -exp(A_log)) may differ: another library rounds its last three bits."""


def check_weights(model: onnx.ModelProto, stages: Sequence[StageSpec], tensors: Mapping[str, Array]) -> WeightCheck:
    """Compare what nodes read with a network's parameters, rounded to the type in which the file stores them.

    Args:
        model: a file of ours.
        stages: of its network.
        tensors: float32, under the names that ``StoredWeight.source`` uses, for the file's image size.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = {node.name: node for node in model.graph.node}
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    compared = 0
    unknown: list[str] = []
    differences: list[WeightDifference] = []
    for stage in stages:
        for weight in stage.weights:
            wanted = tensors[weight.source].T if weight.transposed else tensors[weight.source]
            found = _stored(readers.get(weight.node), weight.input, stored, casts, wanted)
            if found is None:
                unknown.append(f"{weight.node}, input {weight.input}")
                continue
            compared += 1
            difference = _difference(stage, *found, wanted)
            if difference is not None:
                differences.append(difference)
    return WeightCheck(compared, tuple(unknown), tuple(differences))


def _stored(
    reader: onnx.NodeProto | None,
    position: int,
    stored: Mapping[str, onnx.TensorProto],
    casts: Mapping[str, str],
    wanted: Array,
) -> tuple[str, Array] | None:
    """The name and the values of what a node reads, through a Cast too; None if the file does not store it so."""
    if reader is None:
        return None
    if position >= len(reader.input):
        return f"{reader.name}.bias", np.zeros_like(wanted)  # a bias of zeros is left out of the file
    name = reader.input[position]
    tensor = stored.get(casts.get(name, name))
    return None if tensor is None else (tensor.name, numpy_helper.to_array(tensor))


def _difference(stage: StageSpec, name: str, found: Array, wanted: Array) -> WeightDifference | None:
    """Where the values differ by more than their type rounds; None if they do not."""
    wanted, found = wanted.astype(found.dtype).astype(np.float64), found.astype(np.float64)
    if found.shape != wanted.shape:
        found = np.full_like(wanted, np.nan)
    error = np.abs(found - wanted)
    differing = ~(error <= np.abs(wanted) * _LAST_BITS)
    if not differing.any():
        return None
    index = np.unravel_index(np.nan_to_num(error, nan=np.inf).argmax(), error.shape)
    return WeightDifference(
        name=name,
        stage=stage.title,
        differing=int(differing.sum()),
        elements=error.size,
        index=tuple(int(i) for i in index),
        wanted=float(wanted[index]),
        found=float(found[index]),
    )
