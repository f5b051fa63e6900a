"""What goes into the Linear layers of a model when it looks at pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from vimdeploy.converters.quantize.answers import Pictures, Runner
from vimdeploy.converters.quantize.linears import Linear
from vimdeploy.converters.quantize.scales import Scales, best_scales
from vimdeploy.errors import ExecutionError
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.inner_values import inner_values

ROWS = 512
"""Of a layer's input, that its scales are chosen by."""


def calibrated(
    model: onnx.ModelProto, layers: Sequence[Linear], runner: Runner, pictures: Pictures
) -> dict[str, Scales]:
    """The best scales of each layer for some pictures.

    Args:
        model: in float32.
        layers: of the model.
        runner: of the model.
        pictures: taken one by one.

    Raises:
        ImageError: where a picture cannot be read.
        ExecutionError: where ONNX Runtime gives up, or a layer is given numbers that are not finite.
    """
    seen = {layer.input: _Seen() for layer in layers}
    generator, count = np.random.default_rng(0), -(-ROWS // len(pictures.paths))
    batches = runner.batches(pictures, 1, "Calibrating")
    for values in inner_values(model, list(seen), batches, runner.threads):
        for name, inputs in seen.items():
            inputs.add(values[name].reshape(-1, values[name].shape[-1]), count, generator)
    scales = {}
    for done, layer in enumerate(layers):
        runner.report("Choosing scales", done, len(layers))
        rows, largest = np.concatenate(seen[layer.input].rows), seen[layer.input].largest
        if not np.isfinite(largest).all():
            raise ExecutionError(f"{layer.name} is given numbers that are not finite, in float32 already.")
        scales[layer.name] = best_scales(rows, largest, layer.weight)
    runner.report("Choosing scales", len(layers), len(layers))
    return scales


class _Seen:
    """What a layer was given: a sample of the rows (in,), and the largest number of each channel in all of them."""

    def __init__(self) -> None:
        self.rows: list[FloatArray] = []
        self.largest: FloatArray = np.zeros(1, np.float32)

    def add(self, rows: FloatArray, count: int, generator: np.random.Generator) -> None:
        self.largest = np.maximum(self.largest, np.abs(rows).max(axis=0))
        self.rows.append(rows[generator.permutation(len(rows))[:count]])
