"""Eager PyTorch as an artifact: a checkpoint, or the model of another artifact with random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vimdeploy.artifact import ModelInfo, read_onnx
from vimdeploy.bench.kinds import kind_of
from vimdeploy.bench.sources import Source
from vimdeploy.checkpoint import config_from_checkpoint, load_checkpoint, released_variant
from vimdeploy.engine_file import is_engine, read_engine
from vimdeploy.errors import ConfigError, require
from vimdeploy.models.config import VimConfig, variant_by_name

if TYPE_CHECKING:
    from vimdeploy.runtimes.eager import EagerSession


def description_of(source: Source) -> str:
    """The model of an artifact, as ``variant_by_name`` reads it from a file.

    Raises:
        VimdeployError: where it is none of vimdeploy's, or a checkpoint, which PyTorch runs already.
    """
    return json.dumps({"config": dataclasses.asdict(_config_of(source))})


def _config_of(source: Source) -> VimConfig:
    if source.model:
        return variant_by_name(source.model).config
    if source.file is None or kind_of(source.file) == "eager":
        raise ConfigError("The first artifact is a checkpoint: it is measured in PyTorch already.")
    info = read_engine(source.file)[1].model if is_engine(source.file) else read_onnx(source.file)[1]
    return info.config


def eager_session(path: Path, image_size: tuple[int, int] | None, variant: str, threads: int | None) -> EagerSession:
    """Open a model in PyTorch.

    Args:
        path: a checkpoint, or a description.
        image_size: height and width in pixels; None stands for the one that the weights were trained at.
        variant: of checkpoints: the model, as ``variant_by_name`` takes it; empty for the released one that fits.
        threads: as of ``EagerSession``.

    Raises:
        VimdeployError: where the file cannot be read, fits no model, or cannot have the image size.
    """
    require("torch", "export")
    from vimdeploy.models.vim import vim_from_tensors, vim_with_random_weights
    from vimdeploy.runtimes.eager import EagerSession

    if path.suffix == ".json":
        config = variant_by_name(str(path)).config
        model = vim_with_random_weights(config.replace(image_size=image_size or config.image_size), 0)
    else:
        loaded = load_checkpoint(path)
        chosen = variant_by_name(variant) if variant else released_variant(loaded)
        model = vim_from_tensors(config_from_checkpoint(loaded, chosen), loaded.tensors, image_size)
    return EagerSession(model, ModelInfo("eager", model.config), threads)
