"""The weights stored in a file against those of the model it should hold.

A weight that is off by 1 % hides among the roundings of a float16 file's answers; here it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from vimdeploy.models.config import VimConfig
from vimdeploy.models.stages import MIXER_STAGES, StageName, stages_of
from vimdeploy.parity.results import WeightCheck, WeightDifference

Array = npt.NDArray[Any]
_LAST_BITS = 2.0**-21
"""Of a value that was computed at export (A = -exp(A_log)): its last three bits may be another library's."""


def check_weights(model: onnx.ModelProto, config: VimConfig, tensors: Mapping[str, Array]) -> WeightCheck:
    """Compare what nodes read with a model's parameters, rounded to the type in which the file stores them.

    Args:
        model: a file of ours.
        config: of its model.
        tensors: float32, by the names of the released checkpoints, for the file's image size.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = {node.name: node for node in model.graph.node}
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    compared = 0
    unknown: list[str] = []
    differences: list[WeightDifference] = []
    for stage, reader, position, wanted in _wanted(config, tensors):
        found = _stored(readers.get(reader), position, stored, casts, wanted)
        if found is None:
            unknown.append(f"{reader}, input {position}")
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
    """The name and the values of what a node reads, through a Cast too; None where the file does not store it so."""
    if reader is None:
        return None
    if position >= len(reader.input):
        return f"{reader.name}.bias", np.zeros_like(wanted)  # a bias of zeros is left out of the file
    name = reader.input[position]
    tensor = stored.get(casts.get(name, name))
    return None if tensor is None else (tensor.name, numpy_helper.to_array(tensor))


def _wanted(config: VimConfig, tensors: Mapping[str, Array]) -> Iterator[tuple[StageName, str, int, Array]]:
    """For each weight that a node of our exports reads: its stage, the node, the number of the input, the values."""
    for stage in stages_of(config):
        if stage.kind in MIXER_STAGES:
            mixer = f"layers.{stage.block}.mixer"
            own = {name.removeprefix(f"{mixer}."): t for name, t in tensors.items() if name.startswith(f"{mixer}.")}
            for operator, position, values in _of_mixer(stage.kind, own):
                yield stage, f"{mixer}.{operator}", position, values
        elif stage.kind in ("norm", "norm_f"):
            yield stage, f"{stage.name}.Mul", 1, tensors[f"{stage.name}.weight"]
        elif stage.kind == "patch_embed":
            yield stage, "patch_embed.proj.Conv", 1, tensors["patch_embed.proj.weight"]
            yield stage, "patch_embed.proj.Conv", 2, tensors["patch_embed.proj.bias"]
        elif stage.kind == "pos_embed":
            if "cls_token" in tensors:
                yield stage, "Where", 1, tensors["cls_token"]
            yield stage, "Add", 1, tensors["pos_embed"]
        elif stage.kind == "head":
            yield stage, "head.Gemm", 1, tensors["head.weight"]
            yield stage, "head.Gemm", 2, tensors["head.bias"]


def _of_mixer(kind: str, own: Mapping[str, Array]) -> list[tuple[str, int, Array]]:
    """The node, the number of its input and its values, as ``BidirectionalMamba.forward`` puts them together."""

    def both(name: str) -> Array:
        return np.stack([own[name], own[_of_backward(name)]])

    scan = "BidirectionalSelectiveScan"
    return {
        "in_proj": [("in_proj.MatMul", 1, own["in_proj.weight"].T)],
        "conv1d": [
            ("BidirectionalConv1d", 1, both("conv1d.weight")[:, :, 0]),  # (K, E, W)
            ("BidirectionalConv1d", 2, both("conv1d.bias")),
        ],
        "x_proj": [("MatMul", 1, both("x_proj.weight").transpose(0, 2, 1)[:, None])],  # (K, 1, E, R + 2N)
        "scan": [
            (scan, 3, both("dt_proj.weight")),
            (scan, 4, both("dt_proj.bias")),
            (scan, 5, -np.exp(both("A_log"))),
            (scan, 6, both("D")),
        ],
        "out_proj": [("out_proj.MatMul", 1, own["out_proj.weight"].T)],
    }[kind]


def _of_backward(name: str) -> str:
    """A parameter of the backward direction: ``conv1d_b.weight``, ``A_b_log``, ``D_b``."""
    if name == "A_log":
        return "A_b_log"
    module, dot, parameter = name.partition(".")
    return f"{module}_b{dot}{parameter}"


def _difference(stage: StageName, name: str, found: Array, wanted: Array) -> WeightDifference | None:
    """Where the values differ by more than their type rounds; None where they do not."""
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
