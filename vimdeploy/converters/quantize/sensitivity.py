"""What int8 costs, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from vimdeploy.converters.quantize.answers import Runner
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.scales import Scales
from vimdeploy.inputs import Inputs
from vimdeploy.preprocess import FloatArray


@dataclass(frozen=True)
class Sensitivity:
    """One layer in int8, all others in float32."""

    layer: str
    smoothed: bool
    """Whether a Mul evens out the channels of its input."""
    sqnr_db: float
    """The layer's output against the error in it, in decibels of their squares."""
    output_error: float
    """Root of the mean square of what the outputs change by, relative to their standard deviation."""


def sensitivities(
    model: onnx.ModelProto,
    scales: Mapping[str, Scales],
    runner: Runner,
    inputs: Inputs,
) -> list[Sensitivity]:
    """The layers, from the least to the most sensitive.

    Args:
        model: in float32.
        scales: of its layers.
        runner: of the model.
        inputs: few, because they run once for every layer, and the outputs of all are in memory.
    """

    def outputs(of: onnx.ModelProto, phase: str) -> dict[str, FloatArray]:
        batches = list(runner.outputs(of, inputs, phase))
        floats = [name for name, array in batches[0].items() if array.dtype.kind == "f"]  # labels say it no better
        return {name: np.concatenate([batch[name] for batch in batches]) for name in floats}

    wanted = outputs(model, "Outputs in float32")
    found = []
    for done, (layer, of_layer) in enumerate(scales.items()):
        runner.progress("Each layer alone in int8", done, len(scales))
        changed = outputs(with_int8(model, {layer: of_layer}), layer)
        error = max(_relative_change(wanted[name], changed[name]) for name in wanted)
        found.append(Sensitivity(layer, of_layer.smoothing is not None, of_layer.sqnr_db, error))
    runner.progress("Each layer alone in int8", len(scales), len(scales))
    return sorted(found, key=lambda judged: judged.output_error)


def _relative_change(wanted: FloatArray, found: FloatArray) -> float:
    return float(np.sqrt(np.square(found - wanted).mean()) / wanted.std())
