"""The inner values of an ONNX graph, as ONNX Runtime computes them on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from vimdeploy.artifact import Artifact
from vimdeploy.graphs.outputs import with_outputs
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array
from vimdeploy.runtimes.onnxruntime import open_model
from vimdeploy.runtimes.runs import run_session


def inner_values(
    artifact: Artifact, names: Sequence[str], batches: Iterable[Mapping[str, Array]], threads: int | None = None
) -> Iterator[dict[str, FloatArray]]:
    """Run a float32 graph, with the operator library if it is installed.

    Args:
        artifact: the model.
        names: of values that nodes give, or of inputs.
        batches: inputs, by name.
        threads: that one operator may use; None for all cores.

    Yields:
        The values by name, for one batch after the other; all those of a batch are in memory at once.

    Raises:
        ExecutionError: if ONNX Runtime gives up.
    """
    inputs = {spec.name for spec in artifact.info.inputs}
    given = [name for name in names if name not in inputs]
    seen = with_outputs(artifact.model, given)
    opened = Artifact(None, seen.SerializeToString(), artifact.info, model=seen)
    session = open_model(opened, device="cpu", threads=threads).session
    for batch in batches:
        whole = batch if artifact.info.fixed_batch is None else _filled(batch, artifact.info.fixed_batch)
        yield {**whole, **run_session(session, given, whole)}


def _filled(batch: Mapping[str, Array], size: int) -> dict[str, Array]:
    """A batch of a size that a model insists on: with its last row again and again, if it has too few."""
    return {name: array[np.minimum(np.arange(size), len(array) - 1)] for name, array in batch.items()}
