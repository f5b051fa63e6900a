"""What int8 costs, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from vimdeploy.converters.quantize.answers import Pictures, Runner
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.scales import Scales
from vimdeploy.preprocess import FloatArray


@dataclass(frozen=True)
class Sensitivity:
    """One layer in int8, all others in float32."""

    layer: str
    smoothed: bool
    """Whether a Mul evens out the channels of its input."""
    sqnr_db: float
    """The layer's output against the error in it, in decibels of their squares."""
    logit_error: float
    """Root of the mean square of what the logits change by, in parts of their standard deviation."""


def sensitivities(
    model: onnx.ModelProto,
    scales: Mapping[str, Scales],
    runner: Runner,
    pictures: Pictures,
) -> list[Sensitivity]:
    """The layers, from the least to the most sensitive.

    Args:
        model: in float32.
        scales: of its layers.
        runner: of the model.
        pictures: few, for every layer answers to all of them.
    """

    def logits(of: onnx.ModelProto, phase: str) -> FloatArray:
        return np.concatenate(list(runner.logits(of, pictures, phase)))

    wanted = logits(model, "Answers in float32")
    found = []
    for done, (layer, of_layer) in enumerate(scales.items()):
        runner.report("Each layer alone in int8", done, len(scales))
        change = logits(with_int8(model, {layer: of_layer}), layer) - wanted
        error = float(np.sqrt(np.square(change).mean()) / wanted.std())
        found.append(Sensitivity(layer, of_layer.smoothing is not None, of_layer.sqnr_db, error))
    runner.report("Each layer alone in int8", len(scales), len(scales))
    return sorted(found, key=lambda judged: judged.logit_error)
