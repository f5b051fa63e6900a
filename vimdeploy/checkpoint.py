"""Checkpoint file -> weights. Nothing in a file is ever executed.

Read are: ``.pth`` as hustvl/Vim releases it (a whole training state with an argparse.Namespace inside), as
mmsegmentation and detectron2 save it, a bare state dict, ``.safetensors``; by path or as ``hf://owner/repo[/file]``. A
file is what its contents say, not its name.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import CheckpointError, require
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file."""

    path: Path
    sha256: str
    part: str
    """Part of the file: ``model``, ``model_ema``, ``state_dict``, or ``state dict`` if the file is nothing else."""
    tensors: dict[str, Tensor]


def load_checkpoint(source: str | Path, ema: bool = False) -> Checkpoint:
    """Read the weights of a checkpoint file.

    Args:
        source: a path, or ``hf://owner/repo[/file]``.
        ema: take ``model_ema``, the averaged weights, from a training state.

    Raises:
        CheckpointError: if there is no such file, it is no checkpoint, holds more than data, or has no EMA to take.
        MissingPackageError: if torch, safetensors or huggingface_hub is needed and not there.
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
        part, tensors = _choose(path, _load_torch(path), ema)
    elif head[8:9] == b"{":
        if ema:
            raise CheckpointError(f"{path} is a safetensors file: it holds one set of weights, and no model_ema.")
        part, tensors = "state dict", _load_safetensors(path)
    else:
        raise CheckpointError(
            f"{path} is not a checkpoint: wanted a PyTorch .pth or a .safetensors file, found one that begins with "
            f"{head!r}."
        )
    return Checkpoint(path, digest.hexdigest(), part, tensors)


def local_path(source: str | Path) -> Path:
    """Where a checkpoint lies; ``hf://owner/repo[/file]`` is downloaded, or found in the local cache.

    Raises:
        CheckpointError: if it cannot be downloaded.
        MissingPackageError: if huggingface_hub is needed and not there.
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
        raise CheckpointError(f"{source} could not be downloaded: {reason_of(error)}") from error
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
    except Exception as error:  # a damaged pickle raises exceptions of all kinds
        raise CheckpointError(f"{path} is a damaged PyTorch file ({reason_of(error)}); download it again.") from error


def _choose(path: Path, content: Any, ema: bool) -> tuple[str, dict[str, Tensor]]:
    """The state dict that was asked for, out of what a .pth holds."""
    torch = require("torch", "export")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; wanted a state dict or a training state.")
    if ema and "model_ema" not in content:
        raise CheckpointError(f"{path} has no model_ema; it holds: {', '.join(map(str, list(content)[:8]))}.")
    wrappers = ("model_ema",) if ema else ("model", "state_dict")
    part = next((name for name in wrappers if name in content), "state dict")
    state = content if part == "state dict" else content[part]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict; it holds: {', '.join(map(str, list(content)[:8]))}.")
    return part, {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
