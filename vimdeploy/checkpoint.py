"""Checkpoint file -> weights. Nothing in a file is ever executed.

Read are: ``.pth`` as hustvl/Vim releases it (a whole training state with an argparse.Namespace inside), a bare state
dict, ``.safetensors``; by path or as ``hf://owner/repo[/file]``. A file is what its contents say, not its name.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import CheckpointError, first_line, require
from vimdeploy.models.config import VARIANTS, Variant, VimConfig

if TYPE_CHECKING:
    from torch import Tensor

_LAYER_KEY = re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file."""

    path: Path
    sha256: str
    weights: str
    """Which part of the file: ``model``, ``model_ema``, or ``state dict`` where the file is nothing else."""
    tensors: dict[str, Tensor]


def load_checkpoint(source: str | Path, ema: bool = False) -> Checkpoint:
    """Read the weights of a checkpoint file.

    Args:
        source: a path, or ``hf://owner/repo[/file]``.
        ema: take ``model_ema``, the averaged weights, from a training state.

    Raises:
        CheckpointError: where there is no such file, it is no checkpoint, holds something besides data, or no EMA.
        MissingPackageError: where torch, safetensors or huggingface_hub is needed and not there.
    """
    path = local_path(source)
    try:
        with path.open("rb") as file:
            head = file.read(9)
            file.seek(0)
            digest = hashlib.sha256()
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error
    if not head:
        raise CheckpointError(f"The checkpoint {path} is empty (0 bytes); download it again.")
    if head[:2] == b"PK" or head[:1] == b"\x80":
        weights, tensors = _choose(path, _load_torch(path), ema)
    elif head[8:9] == b"{":
        if ema:
            raise CheckpointError(f"{path} is a safetensors file: it holds one set of weights, and no model_ema.")
        weights, tensors = "state dict", _load_safetensors(path)
    else:
        raise CheckpointError(
            f"{path} is not a checkpoint: wanted a PyTorch .pth or a .safetensors file, found one that begins with "
            f"{head!r}."
        )
    return Checkpoint(path, digest.hexdigest(), weights, tensors)


def config_from_checkpoint(checkpoint: Checkpoint, variant: Variant) -> VimConfig:
    """The model that a checkpoint holds, read from the shapes of its tensors.

    Classes and image size are the file's (for square pictures, where the size is not the variant's); stride, class
    token and scale, which shapes do not tell, are the variant's.

    Raises:
        CheckpointError: where the file holds no Vim, or one of another variant: says which one fits.
    """
    found = _config_from_shapes(checkpoint, variant.config)
    fitting = [v for v in (variant, *VARIANTS.values()) if _is(_config_from_shapes(checkpoint, v.config), v.config)]
    if variant in fitting:
        return found
    wanted, tokens = variant.config, checkpoint.tensors["pos_embed"].shape[1]
    if not fitting and found.tokens == tokens and _is(found.replace(image_size=wanted.image_size), wanted):
        return found  # the same model, trained on square pictures of another size
    hint = f"this file fits {fitting[0].name}" if fitting else "it fits none of the released variants"
    raise CheckpointError(
        f"{checkpoint.path} is not a checkpoint of {variant.name}: wanted dim {wanted.dim}, depth {wanted.depth} and "
        f"{wanted.tokens} tokens, found dim {found.dim}, depth {found.depth} and {tokens} tokens; {hint}."
    )


def released_variant(checkpoint: Checkpoint) -> Variant:
    """The released variant that a checkpoint holds, trained on square pictures of any size.

    Raises:
        CheckpointError: where the file holds no Vim, or another one.
    """
    for variant in VARIANTS.values():
        found = _config_from_shapes(checkpoint, variant.config)
        with contextlib.suppress(CheckpointError):
            config_from_checkpoint(checkpoint, variant)
            return variant
    raise CheckpointError(
        f"{checkpoint.path} fits none of the released variants: it has dim {found.dim} and depth {found.depth}; "
        "say what it is with --variant NAME.json."
    )


def _is(found: VimConfig, wanted: VimConfig) -> bool:
    """Whether two models differ in nothing but their classes."""
    return found.replace(num_classes=wanted.num_classes) == wanted


def _config_from_shapes(checkpoint: Checkpoint, like: VimConfig) -> VimConfig:
    """The config of a checkpoint whose stride, class token and scale are those of ``like``."""
    tensors = checkpoint.tensors
    try:
        _, tokens, dim = tensors["pos_embed"].shape
        _, in_channels, patch_size, _ = tensors["patch_embed.proj.weight"].shape
        channels, state_size = tensors["layers.0.mixer.A_log"].shape
        numbers = {
            "in_channels": in_channels,
            "patch_size": patch_size,
            "dim": dim,
            "depth": 1 + max(int(match[1]) for match in map(_LAYER_KEY.match, tensors) if match),
            "num_classes": tensors["head.weight"].shape[0],
            "state_size": state_size,
            "conv_width": tensors["layers.0.mixer.conv1d.weight"].shape[-1],
            "expand": channels // dim,
            "dt_rank": tensors["layers.0.mixer.dt_proj.weight"].shape[-1],
        }
        side = math.isqrt(tokens - ("cls_token" in tensors))
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint.path} holds no Vim of two directions: {error} is not there or not of the shape it should "
            f"have. Its {len(tensors)} tensors begin with: {', '.join(list(tensors)[:4])}."
        ) from error
    stride = min(like.stride, patch_size)
    is_like = tokens == like.tokens and patch_size == like.patch_size
    size = like.image_size if is_like else ((side - 1) * stride + patch_size,) * 2
    return like.replace(**numbers, stride=stride, image_size=size)


def local_path(source: str | Path) -> Path:
    """Where a checkpoint lies; ``hf://owner/repo[/file]`` is downloaded, or found in the local cache.

    Raises:
        CheckpointError: where it cannot be downloaded.
        MissingPackageError: where huggingface_hub is needed and not there.
    """
    return _from_hub(source) if isinstance(source, str) and source.startswith("hf://") else Path(source)


def _from_hub(source: str) -> Path:
    owner, _, rest = source.removeprefix("hf://").partition("/")
    repo, _, name = rest.partition("/")
    if not owner or not repo:
        raise CheckpointError(f"Wanted hf://owner/repo or hf://owner/repo/file, found {source}.")
    hub = require("huggingface_hub", "hub")
    try:
        names = [name] if name else hub.list_repo_files(f"{owner}/{repo}")
        checkpoints = [n for n in names if n.endswith((".pth", ".safetensors"))]
        downloaded = hub.hf_hub_download(f"{owner}/{repo}", checkpoints[0]) if len(checkpoints) == 1 else None
    except Exception as error:  # huggingface_hub lets the exceptions of its HTTP client through
        raise CheckpointError(f"{source} could not be downloaded: {first_line(error)}") from error
    if downloaded is None:
        named = ", ".join(f"hf://{owner}/{repo}/{n}" for n in checkpoints) or "none"
        raise CheckpointError(f"Wanted one .pth or .safetensors file at {source}, found {len(checkpoints)}: {named}.")
    return Path(downloaded)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = require("safetensors", "export")
    load_file = require("safetensors.torch", "export").load_file
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is a damaged safetensors file ({error}); download it again.") from error
    return tensors


def _load_torch(path: Path) -> Any:
    """What a .pth holds, by torch's loader for data alone; an argparse.Namespace, which is data too, is let in."""
    torch = require("torch", "export")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol: what matters of it is an error below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        wish = f"it asks for {asked[1]}, which is code and no weights" if asked else "it holds more than weights"
        raise CheckpointError(
            f"{path} was not loaded, because {wish}. Save the state dict alone (torch.save(model.state_dict(), ...)) "
            "or as .safetensors."
        ) from error
    except Exception as error:  # a damaged pickle brings about all kinds
        raise CheckpointError(f"{path} is a damaged PyTorch file ({first_line(error)}); download it again.") from error


def _choose(path: Path, content: Any, ema: bool) -> tuple[str, dict[str, Tensor]]:
    """The state dict that was asked for, out of what a .pth holds."""
    torch = require("torch", "export")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; wanted a state dict or a training state.")
    if ema and "model_ema" not in content:
        raise CheckpointError(f"{path} has no model_ema; it holds: {', '.join(map(str, list(content)[:8]))}.")
    part = "model_ema" if ema else "model" if "model" in content else "state dict"
    state = content if part == "state dict" else content[part]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict; it holds: {', '.join(map(str, list(content)[:8]))}.")
    return part, {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
