"""What int8 costs, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from vimdeploy.converters.quantize.answers import Runner, relative_change
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.scales import Scales
from vimdeploy.inputs import Inputs
from vimdeploy.tasks import task_of


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

    task = task_of(runner.info)
    wanted = list(runner.outputs(model, inputs, "Outputs in float32"))
    found = []
    for done, (layer, of_layer) in enumerate(scales.items()):
        runner.progress("Each layer alone in int8", done, len(scales))
        changed = runner.outputs(with_int8(model, {layer: of_layer}), inputs, layer)
        pairs = (
            pair
            for sides in zip(wanted, changed, strict=True)
            for pair in ([sides] if task is None else task.pairs(*sides))
        )
        error = relative_change(list(pairs), {} if task is None else task.least_spread)
        found.append(Sensitivity(layer, of_layer.smoothing is not None, of_layer.sqnr_db, error))
    runner.progress("Each layer alone in int8", len(scales), len(scales))
    return sorted(found, key=lambda judged: judged.output_error)
