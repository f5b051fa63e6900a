"""``vimdeploy.export``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from vimdeploy.artifact import Artifact, artifact_from_onnx, open_artifact
from vimdeploy.checkpoint import Checkpoint, load_checkpoint
from vimdeploy.engine_file import check_name
from vimdeploy.errors import ConfigError, ParityError, require
from vimdeploy.files import check_outputs, write_whole
from vimdeploy.inputs import random_inputs
from vimdeploy.model_info import BATCH, PRECISIONS, ModelInfo
from vimdeploy.models import labels_from_file, variant_by_name
from vimdeploy.models.variant import Variant
from vimdeploy.networks import AnySize, Network, network_of_variant
from vimdeploy.progress import Progress, silent, step

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.parity.results import Verification
    from vimdeploy.runtimes.base import Array
    from vimdeploy.torch_module import FlatModule

LOOKED_AT = 8
"""Random inputs, to see what float16 and bfloat16 can hold."""
COMPARED = 2
"""Random inputs that the file and PyTorch are compared on."""

ImageSize = int | tuple[int, int] | str | AnySize | None
"""A side or (height, width) in pixels, ``"dynamic"``, bounds, or None for the size that the weights were trained at."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it compares with PyTorch."""

    artifact: Artifact
    parity: tuple[Verification, ...]
    """With the operator library, if it is installed, and with the function bodies."""
    passed_over: tuple[str, ...] = ()
    """Tensors of the checkpoint that the task has no use for: a head that was not asked for."""
    notes: tuple[str, ...] = ()
    """What the user of a module that somebody brings should know, a sentence each."""


@dataclass(frozen=True)
class PortableForm:
    """What is asked of a portable file."""

    batch: int | None
    loops: bool

    def of(self, artifact: Artifact, sizes: Mapping[str, int] | None = None) -> Artifact:
        """A file of ours in this form; all else as of ``graphs.portable``."""
        from vimdeploy.graphs.portable import portable

        return artifact_from_onnx(portable(artifact.model, self.batch, self.loops, sizes))


@overload
def export(
    model: str | Variant | Network,
    output: str | Path,
    *,
    checkpoint: str | Path | Checkpoint | None = None,
    pretrained: bool = False,
    random_weights: int | None = None,
    ema: bool = False,
    task: str = "classification",
    blocks: Sequence[int] = (),
    neck: str = "",
    image_size: ImageSize = None,
    precision: str = "fp32",
    labels: str | Path | Sequence[str] | None = None,
    uint8_input: bool = False,
    opset: int = 20,
    portable: bool = False,
    batch: int | None = None,
    loops: bool = True,
    progress: Progress = silent,
) -> Exported: ...


@overload
def export(
    model: nn.Module,
    example_inputs: Any,
    output: str | Path,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    name: str = "",
    precision: str = "fp32",
    opset: int = 20,
    portable: bool = False,
    batch: int | None = None,
    loops: bool = True,
    progress: Progress = silent,
) -> Exported: ...


def export(model: Any, *given: Any, **options: Any) -> Exported:
    """Turn a checkpoint, or any PyTorch module, into an ONNX file, which is written only if its answers are PyTorch's.

    ``export(model, output, ...)`` makes one of our models:

    Args:
        model: a name that ``vimdeploy models`` lists, a file NAME.json that describes one of your own, a ``Variant``,
            or a ``Network``: a PyTorch module with its weights, and what its file is to say of itself.
        output: the ONNX file to write.
        checkpoint: its weights: a path, ``hf://owner/repo[/file]``, or a loaded checkpoint. Nothing in it is executed.
        pretrained: take the weights that the authors released, instead of a checkpoint; they are downloaded once.
        random_weights: a seed, instead of a checkpoint: untrained weights, to try things.
        ema: take the averaged weights, ``model_ema``, of a training state.
        task: one of ``tasks.TASKS``: ``classification``, ``features``, ``pyramid``, ``segment``, ``detect``.
        blocks: of features: numbers of the blocks whose maps are outputs too, from 0 on.
        neck: of a pyramid: ``fpn`` or ``simple``; empty: the checkpoint's, ``fpn`` for random weights.
        image_size: of the pictures, in pixels; ``"dynamic"`` or ``AnySize`` leaves height and width free, in steps of
            the model's stride.
        precision: ``fp32``, ``fp16`` or ``bf16``, of weights and matrix products.
        labels: names of the classes in the order of the logits, a text file with one per line, or ``"coco"`` or
            ``"imagenet"`` for theirs. None: the variant's own; a released classifier's are ImageNet's.
        uint8_input: let the file take pictures as bytes (B, H, W, C) and normalise them itself.
        opset: of the ONNX standard, 20 to 24.
        portable: write standard operators of fixed shapes in place of our own, for runtimes that know nothing else.
        batch: of a portable file; None: 1, or the one that the model takes.
        loops: False: a portable file without them, for runtimes without Scan.
        progress: is told how far the work is.

    ``export(module, example_inputs, output, ...)`` takes a module that somebody brings, unmodified, within
    ``vimdeploy.compat.mamba()`` if it needs CUDA extensions that are not installed:

    Args:
        model: the module, an ``nn.Module`` with its weights in float32.
        example_inputs: what to call it with: a tensor, a tuple of arguments, or a dict of keyword arguments. Axis 0 is
            the batch if it has one size in all tensors; it stays free unless the module fixes it.
        output: the ONNX file to write.
        input_names: of the tensors in the inputs, in their order; None: as ``forward`` calls them.
        output_names: of the tensors in the outputs, in their order; None: their keys, or ``output``.
        dynamic: further axes that stay free: ``{"images": {2: "height", 3: "width"}}``.
        name: that the file has for the model; empty: that of its class.
        precision: as above.
        opset: as above.
        portable: as above.
        batch: as above.
        loops: as above.
        progress: as above.

    Returns:
        The opened file and the comparison.

    Raises:
        CheckpointError: if the checkpoint cannot be read or holds another model.
        ConfigError: for options that contradict each other or the model; for a module that cannot be traced, or draws
            random numbers.
        OutputError: if the file cannot be written.
        ParityError: if the file does not answer as PyTorch does; nothing is written then.
        MissingPackageError: without torch or onnxscript.
    """
    if isinstance(model, (str, Variant, Network)):
        return _export_variant(model, *given, **options)
    return _export_module(model, *given, **options)


def _export_variant(
    model: str | Variant | Network,
    output: str | Path,
    *,
    checkpoint: str | Path | Checkpoint | None = None,
    pretrained: bool = False,
    random_weights: int | None = None,
    ema: bool = False,
    task: str = "classification",
    blocks: Sequence[int] = (),
    neck: str = "",
    image_size: ImageSize = None,
    precision: str = "fp32",
    labels: str | Path | Sequence[str] | None = None,
    uint8_input: bool = False,
    opset: int = 20,
    portable: bool = False,
    batch: int | None = None,
    loops: bool = True,
    progress: Progress = silent,
) -> Exported:
    """A model of ours: the first form of ``export``."""
    check_outputs([output], [source for source in (model, checkpoint, labels) if isinstance(source, (str, Path))])
    _check_choices(output, precision)
    form = portable_form(portable, batch, loops)

    if isinstance(model, Network):
        network = model
    else:
        variant = _variant(model, labels)
        checkpoint = _checkpoint(variant, checkpoint, pretrained, random_weights)
        with step("Making the model", progress):
            weights = _weights(checkpoint, random_weights, ema)
            network = network_of_variant(variant, weights, task, sizes_of(image_size), blocks, ema, neck)
    _check_sizes(form, network.info)
    with step("Tracing the model", progress):
        artifact = _traced(network, opset)
    if uint8_input:
        artifact = with_bytes(artifact)
    return _finished(network, artifact, output, precision, form, {}, progress)


def _export_module(
    model: nn.Module,
    example_inputs: Any,
    output: str | Path,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    name: str = "",
    precision: str = "fp32",
    opset: int = 20,
    portable: bool = False,
    batch: int | None = None,
    loops: bool = True,
    progress: Progress = silent,
) -> Exported:
    """A module that somebody brings: the second form of ``export``."""
    check_outputs([output], [])
    _check_choices(output, precision)
    form = portable_form(portable, batch, loops)
    torch = require("torch", "export")
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(f"Wanted a variant or a PyTorch module to export, found {type(model).__name__}.")
    from vimdeploy.torch_module import example_arrays, looked_at, ready

    mode = ("The model was in training mode; the file answers as it does in eval mode.",) if model.training else ()
    with ready(model):
        with step("Running the model", progress):
            module, info, notes = looked_at(
                model,
                example_inputs,
                name=name,
                input_names=input_names,
                output_names=output_names,
                dynamic=dynamic,
            )
        _check_sizes(form, info)
        with step("Tracing the model", progress):
            artifact, batch_note = _traced_module(module, info, opset)
        network = Network(module, artifact.info)
        examples = example_arrays(network)
        if artifact.info.has_batch:
            examples = {name: array[:COMPARED] for name, array in examples.items()}
        with step("Looking at the operators", progress):
            artifact, steps_note = _with_steps(artifact, module, examples)
        made = _finished(network, artifact, output, precision, form, examples, progress)
    return dataclasses.replace(made, notes=(*mode, *notes, *batch_note, *steps_note))


def _check_choices(output: str | Path, precision: str) -> None:
    check_name(output, engine=False)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}.")
    require("torch", "export")


def portable_form(portable: bool, batch: int | None, loops: bool) -> PortableForm | None:
    """What is asked of a portable file; None if none is wanted.

    Raises:
        ConfigError: for a wish that only a portable file can fulfil, or a batch of none.
    """
    if not portable and (batch is not None or not loops):
        raise ConfigError(
            "A fixed batch and a file without loops are for portable files: add --portable (portable=True)."
        )
    if batch is not None and batch < 1:
        raise ConfigError(f"batch must be a whole number of at least 1, found {batch!r}.")
    return PortableForm(batch, loops) if portable else None


def _check_sizes(form: PortableForm | None, info: ModelInfo) -> None:
    """Refuse a portable file of a model that is to leave sizes free.

    Raises:
        ConfigError: names them.
    """
    free = dict.fromkeys(dim for spec in info.inputs for dim in spec.dims if isinstance(dim, str) and dim != BATCH)
    if form is not None and free:
        raise ConfigError(
            f"Wanted a portable file, whose shapes are fixed, of a model that leaves {' and '.join(free)} free; export "
            "it at one size."
        )


def _finished(
    network: Network,
    artifact: Artifact,
    output: str | Path,
    precision: str,
    form: PortableForm | None,
    examples: Mapping[str, Array],
    progress: Progress,
) -> Exported:
    """Bring a traced network to its precision and form, compare it with PyTorch, and write it."""
    if precision != "fp32":
        from vimdeploy.converters.conversion import converted_onnx

        with step("Looking at the tensors", progress):
            batches = random_inputs(artifact.info, LOOKED_AT, seed=0, examples=examples).batches(1)
            artifact = converted_onnx(artifact, precision, batches).artifact
    if form is not None:
        with step("Writing standard operators", progress):
            artifact = form.of(artifact)
    with step("Comparing with PyTorch", progress):
        parity = _compared(network, artifact, examples)
    refuse_other_answers(parity, "PyTorch", output)
    write_whole(output, artifact.data)
    return Exported(open_artifact(output), tuple(parity), network.passed_over)


def sizes_of(image_size: ImageSize) -> tuple[int, int] | AnySize | None:
    """What an image size means.

    Raises:
        ConfigError: for a word other than ``dynamic``.
    """
    if isinstance(image_size, int):
        return image_size, image_size
    if isinstance(image_size, str):
        if image_size != "dynamic":
            raise ConfigError(f"image_size must be numbers of pixels or 'dynamic', found {image_size!r}.")
        return AnySize()
    return image_size


def _variant(model: str | Variant, labels: str | Path | Sequence[str] | None) -> Variant:
    """The variant that is meant, with the labels that are given."""
    variant = variant_by_name(model) if isinstance(model, str) else model
    if labels is None:
        return variant
    names = labels_from_file(Path(labels)) if isinstance(labels, (str, os.PathLike)) else tuple(labels)
    return dataclasses.replace(variant, labels=names)


def _checkpoint(
    variant: Variant, given: str | Path | Checkpoint | None, pretrained: bool, random_weights: int | None
) -> str | Path | Checkpoint | None:
    """The checkpoint that is meant; None for random weights.

    Raises:
        ConfigError: if there is not one source of weights, or nobody released any.
    """
    if (given is not None) + pretrained + (random_weights is not None) != 1:
        known = f"--pretrained for {variant.checkpoint}, " if variant.checkpoint else ""
        raise ConfigError(
            f"Wanted weights from one source: {known}--checkpoint FILE, or --random-weights SEED to try things without "
            "any."
        )
    if pretrained and not variant.checkpoint:
        raise ConfigError(f"vimdeploy knows no released weights of {variant.name}; give some with --checkpoint FILE.")
    return variant.checkpoint if pretrained else given


def _weights(checkpoint: str | Path | Checkpoint | None, seed: int | None, ema: bool) -> Checkpoint | int:
    if checkpoint is None:
        assert seed is not None
        return seed
    return checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, ema)


def _traced(network: Network, opset: int) -> Artifact:
    from vimdeploy.exporters.onnx_graph import onnx_from_model

    return artifact_from_onnx(onnx_from_model(network.module, network.info, opset))


def _traced_module(module: FlatModule, info: ModelInfo, opset: int) -> tuple[Artifact, tuple[str, ...]]:
    """A module in ONNX, with the batch of its examples if it does not leave the batch free, and the note that says so.

    Raises:
        TracingError: if it cannot be traced so either.
    """
    from vimdeploy.exporters.onnx_graph import onnx_from_model
    from vimdeploy.exporters.tracing import TracingError
    from vimdeploy.torch_module import with_fixed_batch, with_sizes

    note: tuple[str, ...] = ()
    while True:
        try:
            return artifact_from_onnx(onnx_from_model(module, info, opset)), note
        except TracingError as error:
            narrower = with_sizes(info, error.sizes)
            if narrower != info:
                info = narrower
                continue
            fixed = with_fixed_batch(info, module.examples)
            if fixed == info:
                raise
            info, size = fixed, next(len(tensor) for tensor in module.examples if tensor.ndim)
            note = (f"The batch is fixed at {size}, that of the example: {error.reason}.",)


def with_bytes(artifact: Artifact) -> Artifact:
    """A file of ours that takes pictures as bytes.

    Raises:
        ConfigError: if it takes no pictures by a recipe, or bytes already.
    """
    from vimdeploy.converters.conversion import finished
    from vimdeploy.graphs.uint8_input import with_uint8_input

    info = artifact.info.with_bytes()
    return finished(with_uint8_input(artifact.model, info), info, artifact.model)


def _with_steps(
    artifact: Artifact, module: FlatModule, examples: Mapping[str, Array]
) -> tuple[Artifact, tuple[str, ...]]:
    """A file that remembers which steps of the module its operator nodes are, and a note of those that are none."""
    from vimdeploy.converters.conversion import finished
    from vimdeploy.models.stages import config_of_steps
    from vimdeploy.parity.steps import steps_of_nodes

    if not artifact.operators:
        return artifact, ()
    steps, left_out = steps_of_nodes(artifact, module, examples)
    info = dataclasses.replace(artifact.info, config=config_of_steps(steps))
    model = type(artifact.model)()
    model.CopyFrom(artifact.model)
    note = (
        f"{left_out} of {sum(artifact.operators.values())} operator nodes give what neither a call nor a module of the "
        "model gives; verify compares the outputs and the other nodes."
    )
    return finished(model, info, artifact.model), (note,) if left_out else ()


def _compared(network: Network, artifact: Artifact, examples: Mapping[str, Array]) -> list[Verification]:
    """The file's answers, with and without the library, against PyTorch's."""
    from vimdeploy.parity.check import check_parity
    from vimdeploy.runtimes.eager import EagerSession
    from vimdeploy.runtimes.from_bytes import as_other
    from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators

    info = network.info.with_bytes() if artifact.info.takes_bytes else network.info
    inputs = random_inputs(info, COMPARED + bool(examples), seed=0, examples=examples)
    sessions = sessions_of_all_operators(artifact)
    reference = as_other(EagerSession(network), artifact.info)
    return check_parity(reference, sessions, inputs.batches(COMPARED), names=inputs.names)


def refuse_other_answers(parity: Sequence[Verification], source: str, output: str | Path) -> None:
    """Refuse a file that is not written yet and does not answer as its source.

    Raises:
        ParityError: names what differs, and by how much.
    """
    for result in parity:
        if not result.passed:
            rounded = result.candidate.precision != "fp32"
            cure = " Further nodes can be kept in float32: vimdeploy convert --keep NODE." if rounded else ""
            raise ParityError(
                f"The file does not answer as {source} does: {result.candidate.description} gives {result.worst.name} "
                f"with {result.worst.complaint}; {output} was not written.{cure}"
            )
