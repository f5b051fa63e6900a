"""``vimdeploy export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.artifact import PRECISIONS
from vimdeploy.cli.console import step
from vimdeploy.cli.made_file import print_answers, print_kept, refuse_other_answers
from vimdeploy.cli.options import PATH, ImageSize, checkpoint_option
from vimdeploy.errors import ConfigError, require

if TYPE_CHECKING:
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.models.config import Variant
    from vimdeploy.models.vim import Vim
    from vimdeploy.parity.inputs import Inputs
    from vimdeploy.parity.results import Verification

LOOKED_AT = 8
"""Random inputs, for what float16 and bfloat16 can hold."""


@click.command()
@click.argument("variant")
@click.option("-o", "--output", type=PATH, required=True, help="The ONNX file to write.")
@checkpoint_option
@click.option("--ema", is_flag=True, help="Take the averaged weights, model_ema, from a training state.")
@click.option("--random-weights", type=int, metavar="SEED", help="No checkpoint: untrained weights, to try things.")
@click.option("--image-size", type=ImageSize(), help="Another input size; the position embedding is resized.")
@click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    default="fp32",
    show_default=True,
    help="Of weights and matrix products; norms, the residual and the scan's inside are always in float32.",
)
@click.option("--labels", type=PATH, metavar="FILE", help="Names of the classes, one a line, kept in the file.")
@click.option("--opset", type=int, default=20, show_default=True, help="Of the ONNX standard: 20 to 24.")
def export(
    variant: str,
    output: Path,
    checkpoint: str | None,
    ema: bool,
    random_weights: int | None,
    image_size: tuple[int, int] | None,
    precision: str,
    labels: Path | None,
    opset: int,
) -> None:
    """Checkpoint to ONNX, compared with PyTorch on the spot.

    The file is written when its answers are PyTorch's, and not before.

    VARIANT is a released model (vimdeploy models lists them), its entry point in hustvl/Vim, or NAME.json, a file that
    describes a model of your own: {"config": {...}, "recipe": {...}, "labels": [...]}.

    \b
    vimdeploy export vim_tiny_patch16_224 -c vim_t_midclstok_76p1acc.pth -o vim_tiny.onnx
    vimdeploy export vim_small_patch16_224 -o vim_small.onnx \\
        -c hf://hustvl/Vim-small-midclstok/vim_s_midclstok_80p5acc.pth
    vimdeploy export vim_tiny_patch16_224 --random-weights 0 --image-size 384x512 -o trial.onnx

    Every block becomes a dozen nodes; the two that no standard has carry their meaning in the file, so that it runs
    where vimdeploy is not installed too. The batch is dynamic, the image size fixed.

    Files of fp16 and bf16 are about half the size, and meant for GPUs. On a CPU vimdeploy runs them too, with every
    rounding, to compare them with PyTorch; no faster than fp32. Nodes whose tensors the type cannot hold stay in
    float32, as far as random inputs tell; vimdeploy convert goes by your pictures.
    """
    from vimdeploy.files import check_writable, write_whole
    from vimdeploy.models.config import labels_from_file, variant_by_name

    chosen = variant_by_name(variant)
    check_writable(output)
    if (checkpoint is None) == (random_weights is None):
        known = f"; the released weights are {chosen.weights}" if chosen.weights else ""
        raise ConfigError(
            f"Wanted weights: either --checkpoint FILE, or --random-weights SEED to try things without any{known}."
        )
    chosen = dataclasses.replace(chosen, labels=labels_from_file(labels)) if labels else chosen
    require("torch", "export")

    from vimdeploy.converters.conversion import converted_onnx
    from vimdeploy.exporters.onnx_graph import onnx_from_model

    with step("Making the model"):
        if checkpoint is not None:
            model, info = _from_checkpoint(chosen, checkpoint, ema, image_size)
        else:
            model, info = _from_seed(chosen, random_weights or 0, image_size)
    with step("Tracing the model"):
        proto = onnx_from_model(model, info, opset)
    if precision != "fp32":
        with step("Looking at the tensors"):
            converted = converted_onnx(proto, precision, _inputs(info, LOOKED_AT).batches(1))
        proto, info = converted.model, converted.info
    data = proto.SerializeToString()
    with step("Comparing with PyTorch"):
        results = _compare(model, info, data)
    refuse_other_answers(results, "PyTorch", output)
    write_whole(output, data)
    height, width = info.config.image_size
    click.echo(f"{output}: {info.variant}, {height}x{width}, {precision}, {len(data) / 1e6:.1f} MB")
    print_kept(info)
    print_answers(results, "PyTorch")


def _from_checkpoint(
    variant: Variant, checkpoint: str, ema: bool, image_size: tuple[int, int] | None
) -> tuple[Vim, ModelInfo]:
    """The model with the weights of a checkpoint."""
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.checkpoint import config_from_checkpoint, load_checkpoint
    from vimdeploy.models.vim import vim_from_tensors

    loaded = load_checkpoint(checkpoint, ema)
    trained = config_from_checkpoint(loaded, variant)
    model = vim_from_tensors(trained, loaded.tensors, image_size)
    return model, ModelInfo(
        variant.name,
        model.config,
        variant.recipe,
        variant.labels,
        trained_image_size=trained.image_size,
        weights="checkpoint model_ema" if ema else "checkpoint",
        checkpoint_sha256=loaded.sha256,
    )


def _from_seed(variant: Variant, seed: int, image_size: tuple[int, int] | None) -> tuple[Vim, ModelInfo]:
    """The model as it is before training."""
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.models.vim import vim_with_random_weights

    config = variant.config.replace(image_size=image_size or variant.config.image_size)
    info = ModelInfo(variant.name, config, variant.recipe, variant.labels, weights=f"random seed {seed}")
    return vim_with_random_weights(config, seed), info


def _compare(model: Vim, info: ModelInfo, data: bytes) -> list[Verification]:
    """The file's answers, with and without the library, against PyTorch's."""
    from vimdeploy.parity.check import check_parity
    from vimdeploy.runtimes.eager import EagerSession
    from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators

    inputs = _inputs(info, 2)
    return check_parity(EagerSession(model, info), sessions_of_all_operators(data, info), inputs.batches(2))


def _inputs(info: ModelInfo, count: int) -> Inputs:
    from vimdeploy.parity.inputs import random_inputs

    return random_inputs((info.config.in_channels, *info.config.image_size), count, seed=0)
