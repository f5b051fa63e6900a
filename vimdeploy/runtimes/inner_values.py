"""The inner values of an ONNX graph, as ONNX Runtime computes them on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx

from vimdeploy.errors import ExecutionError, first_line
from vimdeploy.exporters.onnx_values import with_outputs
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.onnxruntime import open_model


def inner_values(
    model: onnx.ModelProto, names: Sequence[str], batches: Iterable[FloatArray], threads: int | None = None
) -> Iterator[dict[str, FloatArray]]:
    """Run a float32 graph, with the operator library where it is installed.

    Args:
        model: of one input.
        names: of values that nodes give, or of the input.
        batches: inputs (B, C, H, W).
        threads: that one operator may use; None for all cores.

    Yields:
        The values by name, for one batch after the other; all those of a batch are in memory at once.

    Raises:
        ExecutionError: where ONNX Runtime gives up.
    """
    images = model.graph.input[0].name
    given = [name for name in names if name != images]
    session, _, _ = open_model(with_outputs(model, given).SerializeToString(), device="cpu", threads=threads)
    for batch in batches:
        try:
            values = session.run(given, {images: batch})
        except Exception as error:
            raise ExecutionError(f"ONNX Runtime failed on a batch of {len(batch)}: {first_line(error)}") from error
        yield {images: batch, **dict(zip(given, values, strict=True))}
