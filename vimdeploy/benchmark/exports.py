"""Models exported to be measured. Their weights are random, which changes no time."""

from __future__ import annotations

import dataclasses

import onnx
import torch

from vimdeploy.artifact import ModelInfo
from vimdeploy.bench.sources import BASELINES, Source
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.models.config import VimConfig, variant_by_name
from vimdeploy.models.deit import DEIT_VARIANTS, Attention, DeiT, FusedAttention
from vimdeploy.models.vim import vim_with_random_weights


def onnx_from_source(source: Source, image_size: tuple[int, int] | None) -> onnx.ModelProto:
    """A model as vimdeploy export would write it.

    Args:
        source: one that is no file.
        image_size: height and width in pixels; None stands for the model's own.

    Raises:
        ConfigError: for a model that is not known, or a size that it cannot have.
        MissingPackageError: without onnxscript.
    """
    if source.model in BASELINES:
        config = DEIT_VARIANTS[f"{source.model}_patch16_224"]
        config = dataclasses.replace(config, image_size=image_size or config.image_size)
        torch.manual_seed(0)
        return onnx_from_deit(DeiT(config, FusedAttention if source.fused_attention else Attention))
    variant = variant_by_name(source.model)
    vim = variant.config.replace(image_size=image_size or variant.config.image_size)
    info = ModelInfo(variant.name, vim, variant.recipe, variant.labels, weights="random seed 0")
    return onnx_from_model(vim_with_random_weights(vim, 0), info)


def onnx_from_deit(model: DeiT) -> onnx.ModelProto:
    """A baseline as ONNX, by the same exporter, without a word of vimdeploy's: none of its commands takes the file."""
    sizes = VimConfig(image_size=model.config.image_size, num_classes=model.config.num_classes)
    proto = onnx_from_model(model, ModelInfo("deit", sizes))
    del proto.metadata_props[:]
    return proto
