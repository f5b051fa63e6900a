"""``vimdeploy.quantize``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vimdeploy.artifact import Artifact, check_unchanged, open_artifact, require_onnx
from vimdeploy.engine_file import check_name
from vimdeploy.errors import ConfigError
from vimdeploy.files import check_outputs, write_whole
from vimdeploy.inputs import some_inputs
from vimdeploy.model_file import given_network
from vimdeploy.progress import Progress, silent
from vimdeploy.tasks import task_of

if TYPE_CHECKING:
    from vimdeploy.converters.quantize.sensitivity import Sensitivity
    from vimdeploy.model_file import GivenModel
    from vimdeploy.tasks.base import Agreement

INPUTS = 16
"""Examples and random inputs, if there are no pictures."""
OF_OUTPUTS = "the outputs' standard deviation"


@dataclass(frozen=True)
class Quantized:
    """A file that was written, and how its answers compare with those in float32."""

    artifact: Artifact
    """Its info's ``kept_in_float32`` says which layers are not in int8, and why."""
    layers: tuple[Sensitivity, ...]
    """From the least to the most sensitive."""
    images: int
    """Pictures that it was judged by."""
    agreement: Agreement
    points_lost: float
    """In percentage points of ``judged_by``."""
    judged_by: str
    """``accuracy``, or ``equal top-1 answers`` if the classes are not known; ``OF_OUTPUTS`` without a task."""


def quantize(
    model: str | Path | Artifact,
    output: str | Path,
    images: str | Path | None = None,
    *,
    exported_from: GivenModel | None = None,
    budget: float | None = None,
    keep: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Quantized:
    """Bring the Linear layers of a float32 file to int8, as many as a budget of accuracy allows.

    Args:
        model: a float32 ONNX file of ours.
        output: the ONNX file to write.
        images: a folder of a few hundred pictures that the model is meant for; with a sub-folder per class, accuracy
            counts, else how often the answers stay the same. A file without a task may do without: None stands for
            example and random inputs then.
        exported_from: the PyTorch module of a file without a task, for its example inputs: (module, example inputs) or
            ``FILE.py:FUNCTION``.
        budget: how much may be lost, in percentage points; without a task, how much the outputs may change, in per cent
            of their standard deviation. None: 0.5, and 5 without a task.
        keep: names of layers to keep in float32; ``*`` stands for anything.
        image_size: height and width in pixels of the pictures, if the file leaves them open.
        threads: that one operator may use; None takes all cores.
        progress: is told how far the work is.

    Raises:
        ModelFileError: if the file is not ours, an engine, or not in float32.
        ImageError: if the folder or a picture cannot be read.
        ConfigError: if a layer to keep is not there, or none is left.
        OutputError: if the file cannot be written.
        ParityError: if a single layer is over the budget; nothing is written then.
    """
    artifact = require_onnx(model)
    check_unchanged(artifact)
    check_outputs([output], [path for path in (artifact.path, images) if path])
    check_name(output, engine=False)
    task = task_of(artifact.info)
    if task is not None and images is None:
        raise ConfigError("Wanted a folder of pictures that the model is meant for: give it with --images DIR.")
    with given_network(exported_from, artifact.info) as (_, examples):
        inputs = some_inputs(artifact.info, images, INPUTS, image_size=image_size, examples=examples)

    from vimdeploy.converters.quantize.choose import int8_from_float32

    if budget is None:
        budget = 0.5 if task is not None else 5.0
    made = int8_from_float32(artifact, inputs, budget, keep, threads, progress)
    write_whole(output, made.artifact.data)
    judged_by = OF_OUTPUTS if task is None else task.counts[0 if inputs.classes is not None else 1]
    return Quantized(open_artifact(output), made.layers, made.images, made.agreement, made.points_lost, judged_by)
