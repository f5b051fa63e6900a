"""``vimdeploy.convert``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vimdeploy.api.export import portable_form, refuse_other_answers, with_bytes
from vimdeploy.artifact import Artifact, check_unchanged, open_artifact, require_onnx
from vimdeploy.engine_file import check_name
from vimdeploy.errors import ConfigError, VimdeployWarning
from vimdeploy.files import check_outputs, write_whole
from vimdeploy.inputs import some_inputs
from vimdeploy.model_file import given_network
from vimdeploy.model_info import HEIGHT, PRECISIONS, WIDTH, ModelInfo
from vimdeploy.progress import Progress, silent, step, tracked

if TYPE_CHECKING:
    from vimdeploy.converters.ranges import Range
    from vimdeploy.model_file import GivenModel
    from vimdeploy.parity.results import Verification

BATCH = 8


@dataclass(frozen=True)
class Converted:
    """A file that was written, and how it compares with the one it was made from."""

    artifact: Artifact
    """Its info's ``kept_in_float32`` says which nodes are not in the new precision, and why."""
    inputs: str
    """What was looked at: ``16 pictures of DIR``."""
    ranges: Mapping[str, Range]
    """The range of each tensor that would be stored in the precision, weights included, in the order of the graph; none
    if the precision stays."""
    parity: tuple[Verification, ...]
    """With the operator library, if it is installed, and with the function bodies."""


def convert(
    model: str | Path | Artifact,
    output: str | Path,
    precision: str | None = None,
    *,
    uint8_input: bool = False,
    portable: bool = False,
    batch: int | None = None,
    loops: bool = True,
    images: str | Path | None = None,
    exported_from: GivenModel | None = None,
    count: int = 16,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
    keep: Sequence[str] = (),
    progress: Progress = silent,
) -> Converted:
    """Bring a file to float16 or bfloat16, half the size, to pictures of bytes, or into portable form.

    It is written only if its answers stay.

    For another precision sample inputs go through the model. A node stays in float32 if one of its tensors comes close
    to overflowing the new type, or is so small that it would lose precision.

    Args:
        model: an ONNX file of ours; for another precision, in float32.
        output: the ONNX file to write.
        precision: ``fp16`` or ``bf16``; None leaves it.
        uint8_input: let the file take pictures as bytes (B, H, W, C) and normalise them itself.
        portable: write standard operators of fixed shapes in place of our own, for runtimes that know nothing else.
        batch: of a portable file; None: 1, or the one that the model takes.
        loops: False: a portable file without them, for runtimes without Scan.
        images: a folder of real pictures to look at; None: random inputs, with a warning.
        exported_from: the PyTorch module of a file without a task, for its example inputs: (module, example inputs) or
            ``FILE.py:FUNCTION``.
        count: how many inputs, evenly spread over the folder.
        seed: of the random inputs.
        image_size: height and width in pixels of the inputs, and of a portable file, if the file leaves them open.
        keep: names of further nodes to keep in float32; ``*`` stands for anything.
        progress: is told how far the work is.

    Raises:
        ModelFileError: if the file is not ours, an engine, portable already, or not in float32.
        ConfigError: if nothing is to be done, for another precision, a node that is not there, or a file that takes
            bytes already.
        OutputError: if the file cannot be written.
        ParityError: if the new file does not answer as the old one; nothing is written then.
        MissingPackageError: without onnx_ir.
    """
    form = portable_form(portable, batch, loops)
    if precision is None and form is None and not uint8_input:
        raise ConfigError("Wanted something to convert to: --precision fp16 or bf16, --uint8-input, or --portable.")
    if precision is not None and (precision not in PRECISIONS or precision == "fp32"):
        raise ConfigError(f"precision must be fp16 or bf16, found {precision!r}.")
    if precision is None and keep:
        raise ConfigError("Nodes are kept in float32 if another precision is wanted: add --precision fp16 or bf16.")
    artifact = require_onnx(model)
    check_unchanged(artifact)
    check_outputs([output], [path for path in (artifact.path, images) if path])
    check_name(output, engine=False)
    made = with_bytes(artifact) if uint8_input else artifact
    with given_network(exported_from, artifact.info) as (_, examples):
        inputs = some_inputs(made.info, images, count, seed, image_size=image_size, examples=examples).spread(count)
    if precision is not None and images is None and not examples:
        cure = "pictures may reach further: give some with --images DIR"
        if not artifact.info.task:
            cure = "inputs may reach further: give the model's examples with --model FILE.py:FUNCTION"
        warnings.warn(
            f"Random inputs are looked at; tensors of real {cure}.",
            VimdeployWarning,
            stacklevel=2,
        )

    from vimdeploy.converters.conversion import converted_onnx
    from vimdeploy.parity.check import check_parity
    from vimdeploy.runtimes.from_bytes import as_other
    from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, sessions_of_all_operators

    ranges: Mapping[str, Range] = {}
    if precision is not None:
        # One at a time, because all inner values of a batch are in memory.
        looked_at = tracked(inputs.batches(1), "Looking at the tensors", len(inputs), progress)
        converted = converted_onnx(made, precision, looked_at, keep)
        made, ranges = converted.artifact, converted.ranges
    if form is not None:
        with step("Writing standard operators", progress):
            made = form.of(made, _sizes(artifact.info, image_size))
    parity = check_parity(
        as_other(OnnxRuntimeSession(artifact, device="cpu"), made.info),
        sessions_of_all_operators(made),
        tracked(inputs.batches(BATCH), "Comparing", inputs.batch_count(BATCH), progress),
        names=inputs.names,
    )
    refuse_other_answers(parity, str(artifact), output)
    write_whole(output, made.data)
    return Converted(open_artifact(output), inputs.description, ranges, tuple(parity))


def _sizes(info: ModelInfo, image_size: tuple[int, int] | None) -> dict[str, int]:
    """The height and width that a portable file takes, of those that a file leaves open."""
    if info.picture is None:
        return {}
    return dict(zip((HEIGHT, WIDTH), info.fixed_image_size(image_size), strict=True))
