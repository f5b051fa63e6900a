"""``vimdeploy export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vimdeploy.cli.console import parity_document, phases, print_json, print_kept, print_next, print_parity, say
from vimdeploy.cli.options import (
    PATH,
    FreeAxes,
    Names,
    Numbers,
    SizeOrRange,
    batch_option,
    checkpoint_option,
    json_option,
    loops_option,
    portable_option,
    uint8_option,
)
from vimdeploy.cli.signals import signals_kept
from vimdeploy.model_info import PRECISIONS
from vimdeploy.tasks import TASKS

if TYPE_CHECKING:
    from vimdeploy.api.export import Exported

SHOWN = 3
"""Tensors that were passed over, of those that are named."""
_OF_MODULES = ("input_names", "output_names", "dynamic")
"""Options for modules that somebody brings."""
_OF_VARIANTS = (
    *("checkpoint", "pretrained", "ema", "random_weights", "task", "blocks", "neck", "image_size", "labels"),
    "uint8_input",
)
"""Options for our own models."""


@click.command()
@click.argument("model", metavar="VARIANT|FILE.py:FUNCTION")
@click.option("-o", "--output", type=PATH, required=True, help="Write this ONNX file.")
@checkpoint_option
@click.option(
    "--pretrained",
    is_flag=True,
    help="Take the weights that the authors released, instead of a checkpoint. They are downloaded from the Hugging "
    "Face Hub once, and kept.",
)
@click.option(
    "--ema", is_flag=True, help="Take the averaged weights, model_ema, from a training state: they often score higher."
)
@click.option(
    "--random-weights",
    type=int,
    metavar="SEED",
    help="Take untrained weights instead of a checkpoint, to try things; the same for the same seed.",
)
@click.option(
    "--task",
    type=click.Choice(list(TASKS)),
    default="classification",
    show_default=True,
    help="Choose what the file answers: logits of classes; feature maps and a pooled vector, for heads of your own; a "
    "pyramid of feature maps, which heads of segmentation and detection start from; the class of each pixel, by "
    "UperNet; or objects with their boxes and masks, by Cascade Mask R-CNN.",
)
@click.option(
    "--blocks",
    type=Numbers(least=0),
    default=(),
    help="With --task features, add the maps of these blocks as outputs, numbered from 0, for necks that read several "
    "depths. Default: none.",
)
@click.option(
    "--neck",
    type=click.Choice(["fpn", "simple"]),
    help="With --task pyramid, choose what makes the maps: fpn, four maps of four blocks, as hustvl/Vim segments with; "
    "or simple, five maps of the last block, as it detects with. Default: the checkpoint's; fpn for random weights.",
)
@click.option(
    "--image-size",
    type=SizeOrRange(),
    metavar=SizeOrRange.name,
    help="Set the image size in pixels: one size; dynamic, which takes every size in steps of the model's stride; or "
    "the smallest and the largest of a range. The position embedding is resized. Default: the size that the weights "
    "were trained at.",
)
@click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    default="fp32",
    show_default=True,
    help="Store weights and compute matrix products in this type; norms, the residual and the inside of the scan are "
    "always float32, because they lose too much otherwise.",
)
@click.option(
    "--class-names",
    "--labels",
    "labels",
    type=PATH,
    metavar="FILE|coco|imagenet",
    help="Store the names of the classes in the file, so that answers have names: from a text file with one per line, "
    "or coco or imagenet for theirs. Default: the variant's own; a released classifier's are ImageNet's.",
)
@click.option(
    "--opset",
    type=int,
    default=20,
    show_default=True,
    help="Write this opset of the ONNX standard, 20 to 24; more runtimes take an older one.",
)
@click.option(
    "--input-names",
    type=Names(),
    help="With FILE.py:FUNCTION, name the inputs so, in the order of their tensors. Default: as the model's forward "
    "calls them.",
)
@click.option(
    "--output-names",
    type=Names(),
    help="With FILE.py:FUNCTION, name the outputs so, in the order of their tensors. Default: their keys, or output.",
)
@click.option(
    "--dynamic",
    type=FreeAxes(),
    help="With FILE.py:FUNCTION, leave these axes of inputs free too: images:2=height,images:3=width. Default: the "
    "batch alone, axis 0 of all inputs, unless the model fixes it.",
)
@uint8_option
@portable_option
@batch_option
@loops_option
@json_option
@click.pass_context
def export(
    context: click.Context,
    model: str,
    output: Path,
    checkpoint: str | None,
    pretrained: bool,
    ema: bool,
    random_weights: int | None,
    task: str,
    blocks: tuple[int, ...],
    neck: str | None,
    image_size: Any,
    precision: str,
    labels: Path | None,
    opset: int,
    input_names: tuple[str, ...] | None,
    output_names: tuple[str, ...] | None,
    dynamic: dict[str, dict[int, str]] | None,
    uint8_input: bool,
    portable: bool,
    batch: int | None,
    loops: bool,
    as_json: bool,
) -> None:
    """Turn a checkpoint, or any PyTorch model, into an ONNX file, compared with PyTorch on the spot.

    The file is written only if its answers are PyTorch's.

    VARIANT is a released model (vimdeploy models lists them), its entry point in hustvl/Vim, or NAME.json, a file that
    describes a model of your own: {"config": {...}, "recipe": {...}, "labels": [...]}.

    FILE.py:FUNCTION stands for any PyTorch model, unmodified: FUNCTION() returns the model and its example inputs, as
    in return model, (torch.randn(1, 3, 224, 224),). Stand-ins for CUDA extensions that are not installed, such as
    mamba_ssm, causal_conv1d and selective_scan_cuda, are in place while it runs. The file is run: it can do all that
    you can do.

    \b
    vimdeploy export vim_tiny --pretrained -o vim_tiny.onnx
    vimdeploy export vim_small -c vim_s_midclstok_80p5acc.pth -o vim_small.onnx
    vimdeploy export vim_tiny --random-weights 0 --image-size 384x512 -o trial.onnx
    vimdeploy export vim_tiny -c upernet_vim_tiny.pth --task features --blocks 5,11,17,23 -o maps.onnx
    vimdeploy export vim_tiny -c upernet_vim_tiny.pth --task pyramid -o pyramid.onnx
    vimdeploy export vim_tiny -c upernet_vim_tiny.pth --task segment -o segment.onnx
    vimdeploy export vim_tiny -c cascade_mask_rcnn_vim_tiny.pth --task detect -o detect.onnx
    vimdeploy export vim_tiny -c C.pth --image-size dynamic -o any_size.onnx
    vimdeploy export vim_tiny -c C.pth --uint8-input -o vim_tiny_uint8.onnx
    vimdeploy export their_model.py:make -o theirs.onnx

    Vim's own operators, which the ONNX standard does not have, are in the file as function bodies of standard ones, so
    that it runs without vimdeploy too. The batch is dynamic, unless a model of somebody else fixes it.

    Checkpoints of mmsegmentation and detectron2 are taken too: their backbone is exported, with its neck if the task is
    pyramid, UperNet if it is segment, and Cascade Mask R-CNN if it is detect. Heads that the task does not want are
    passed over and named.

    Files of fp16 and bf16 are about half the size and meant for GPUs. On a CPU vimdeploy runs them too, with every
    rounding, so that they can be compared with PyTorch; they are no faster than fp32 there. A node stays in float32 if
    random inputs show that the type cannot hold its tensors; vimdeploy convert judges by your own pictures.
    """
    from vimdeploy.api.export import export as export_model
    from vimdeploy.model_file import is_model_file, model_of_file
    from vimdeploy.networks import AnySize

    is_module = is_model_file(model)
    _check_options(context, is_module)
    is_range = isinstance(image_size, tuple) and isinstance(image_size[0], tuple)
    with signals_kept(), phases("Exporting", each=True) as progress:
        if is_module:
            with model_of_file(model) as (module, examples):
                made = export_model(
                    module,
                    examples,
                    output,
                    input_names=input_names,
                    output_names=output_names,
                    dynamic=dynamic,
                    precision=precision,
                    opset=opset,
                    portable=portable,
                    batch=batch,
                    loops=loops,
                    progress=progress,
                )
        else:
            made = export_model(
                model,
                output,
                checkpoint=checkpoint,
                pretrained=pretrained,
                random_weights=random_weights,
                ema=ema,
                task=task,
                blocks=blocks,
                neck=neck or "",
                image_size=AnySize(*image_size) if is_range else image_size,
                precision=precision,
                labels=labels,
                uint8_input=uint8_input,
                opset=opset,
                portable=portable,
                batch=batch,
                loops=loops,
                progress=progress,
            )
    if as_json:
        print_json(_document(made))
    else:
        _print(made)
        if is_module:
            print_next("verify", made.artifact, model=model)
        elif random_weights is not None:
            print_next("verify", made.artifact)
        else:
            print_next("run", made.artifact, "PICTURE")


def _check_options(context: click.Context, is_module: bool) -> None:
    """Refuse options for the other kind of model."""
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name in (_OF_VARIANTS if is_module else _OF_MODULES):
            wanted = "models of vimdeploy's own" if is_module else "FILE.py:FUNCTION"
            raise click.UsageError(f"{parameter.opts[-1]} is for {wanted}.")


def _document(made: Exported) -> dict[str, Any]:
    from vimdeploy.api.inspect import inspect

    return {
        "output": str(made.artifact),
        "bytes": made.artifact.bytes,
        "passed_over": list(made.passed_over),
        "notes": list(made.notes),
        "parity": parity_document(made.parity),
        "model": inspect(made.artifact)["model"],
    }


def _print(made: Exported) -> None:
    info = made.artifact.info
    parts = (info.name, info.task, info.size_text, info.precision, info.form, f"{made.artifact.bytes / 1e6:.1f} MB")
    say(f"{made.artifact}: {', '.join(part for part in parts if part)}")
    for note in made.notes:
        say(note)
    if info.task != "classification":
        say(f"Outputs: {', '.join(map(str, info.outputs))}")
    if made.passed_over:
        more = f" and {len(made.passed_over) - SHOWN} more" if len(made.passed_over) > SHOWN else ""
        say(f"Passed over in the checkpoint: {', '.join(made.passed_over[:SHOWN])}{more}")
    print_kept(info)
    print_parity(made.parity, "PyTorch")
