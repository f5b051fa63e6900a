"""What goes into the Linear layers of a model when it looks at pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vimdeploy.artifact import Artifact
from vimdeploy.converters.quantize.answers import Runner
from vimdeploy.converters.quantize.linears import Linear
from vimdeploy.converters.quantize.scales import Scales, best_scales
from vimdeploy.errors import ExecutionError
from vimdeploy.inputs import Inputs
from vimdeploy.preprocess import FloatArray
from vimdeploy.progress import tracked
from vimdeploy.runtimes.inner_values import inner_values

ROWS = 512
"""How many rows of a layer's input its scales are chosen by."""


def calibrated(artifact: Artifact, layers: Sequence[Linear], runner: Runner, inputs: Inputs) -> dict[str, Scales]:
    """The best scales of each layer for some pictures.

    Args:
        artifact: in float32.
        layers: of the model.
        runner: of the model.
        inputs: taken one by one.

    Raises:
        ImageError: if a picture cannot be read.
        ExecutionError: if ONNX Runtime gives up, or a layer is given numbers that are not finite.
    """
    seen = {layer.input: _Seen() for layer in layers}
    generator, count = np.random.default_rng(0), -(-ROWS // len(inputs))
    batches = tracked(inputs.batches(1), "Calibrating", len(inputs), runner.progress)
    for values in inner_values(artifact, list(seen), batches, runner.threads):
        for name, of_layer in seen.items():
            of_layer.add(values[name].reshape(-1, values[name].shape[-1]), count, generator)
    scales = {}
    for done, layer in enumerate(layers):
        runner.progress("Choosing scales", done, len(layers))
        rows, largest = np.concatenate(seen[layer.input].rows), seen[layer.input].largest
        if not np.isfinite(largest).all():
            raise ExecutionError(f"{layer.name} is given numbers that are not finite, in float32 already.")
        scales[layer.name] = best_scales(rows, largest, layer.weight)
    runner.progress("Choosing scales", len(layers), len(layers))
    return scales


class _Seen:
    """What a layer was given: a sample of the rows (in,), and the largest number of each channel in all of them."""

    def __init__(self) -> None:
        self.rows: list[FloatArray] = []
        self.largest: FloatArray = np.zeros(1, np.float32)

    def add(self, rows: FloatArray, count: int, generator: np.random.Generator) -> None:
        self.largest = np.maximum(self.largest, np.abs(rows).max(axis=0))
        self.rows.append(rows[generator.permutation(len(rows))[:count]])
