"""What int8 costs, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from vimdeploy.converters.quantize.answers import Runner
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.scales import Scales
from vimdeploy.inputs import Inputs
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import ABSENT, Outputs, Task


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
    assert task is not None  # int8_from_float32 refuses files without
    wanted = list(runner.outputs(model, inputs, "Outputs in float32"))
    found = []
    for done, (layer, of_layer) in enumerate(scales.items()):
        runner.progress("Each layer alone in int8", done, len(scales))
        changed = runner.outputs(with_int8(model, {layer: of_layer}), inputs, layer)
        error = _relative_change(
            task, [pair for sides in zip(wanted, changed, strict=True) for pair in task.pairs(*sides)]
        )
        found.append(Sensitivity(layer, of_layer.smoothing is not None, of_layer.sqnr_db, error))
    runner.progress("Each layer alone in int8", len(scales), len(scales))
    return sorted(found, key=lambda judged: judged.output_error)


def _relative_change(task: Task, pairs: Sequence[tuple[Outputs, Outputs]]) -> float:
    """How much the outputs change, the one that changes most; of labels, what one side alone has counts as lost."""
    errors = []
    for name in pairs[0][0]:
        wanted, found = (np.concatenate([pair[side][name].reshape(-1) for pair in pairs]) for side in range(2))
        if wanted.dtype.kind == "f" and wanted.size:
            spread = max(float(wanted.std()), task.least_spread.get(name, 0.0))
            errors.append(float(np.sqrt(np.square(found - wanted).mean())) / spread)
        elif wanted.dtype.kind != "f":
            alone = (wanted != found) & ((wanted == ABSENT) | (found == ABSENT))
            errors.append(float(np.sqrt(alone.mean())))
    return max(errors)
