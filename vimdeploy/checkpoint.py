"""Checkpoint file -> weights. Nothing in a file is ever executed.

Read are ``.pth`` as hustvl/Vim releases it (a whole training state with an argparse.Namespace inside), as
mmsegmentation, detectron2, timm and Lightning save it, a bare state dict, ``.safetensors``; by path or as
``hf://owner/repo[/file]``. A file is what its contents say, not its name.

Weights may stand under names such as ``state_dict`` or ``ema.module``, and their own names may begin with what a
trainer wrapped the model in: ``module.``, ``_orig_mod.``, ``model.``. Both are taken off.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vimdeploy.errors import CheckpointError, VimdeployWarning, require
from vimdeploy.reading import check_regular, shown, why
from vimdeploy.text import reason_of, shortened
from vimdeploy.torch_file import UNPACKED, Array, Data, contents

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 16 << 30
"""Bytes of the largest file that is read; a training state of Vim-B has 1.6 GB."""
_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "module", "weights", "params")
"""What trainers call the weights in a training state; of several that hold some, the first is taken."""
_AVERAGED = re.compile(r"(^|[._])(ema|averaged|swa)([._]|$)")
"""In the names of averaged weights: ``model_ema``, ``ema_state_dict``, ``ema.module``."""
_PASSED_THROUGH = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of a tensor's name that torch puts in: parallel training, torch.compile, sharding, recomputing."""
_FIRST_LAYER = "patch_embed.proj.weight"
"""The tensor that every model of ours has; what its name begins with tells how the model was wrapped."""
_BACKBONES = ("backbone.net.", "backbone.")
"""Beginnings that are no wrapper: detectron2, mmsegmentation and our own classifiers name backbones like this."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file."""

    path: Path
    sha256: str
    part: str
    """Part of the file: ``model``, ``model_ema``, ``ema.module``, or ``state dict`` if the file is nothing else."""
    tensors: dict[str, Tensor]
    passed_over: tuple[str, ...] = ()
    """Tensors that stand beside the model: a loss's, a second model's."""
    model_name: str = ""
    """What the training state calls the model; empty if it does not say."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels that the training state tells of."""
    class_names: tuple[str, ...] = ()
    """What mmsegmentation writes beside the weights; empty if nobody did."""


def load_checkpoint(source: str | Path, ema: bool = False) -> Checkpoint:
    """Read the weights of a checkpoint file.

    Args:
        source: a path, or ``hf://owner/repo[/file]``.
        ema: take the averaged weights, ``model_ema``, of a training state.

    Raises:
        CheckpointError: if there is no such file, it is no checkpoint, holds more than data, or has no EMA to take.
        MissingPackageError: if torch, safetensors or huggingface_hub is needed and not there.
    """
    path = local_path(source)
    data = _read(path)
    content = _safetensors(path, data) if data[8:9] == b"{" else contents(path, data)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; wanted a state dict or a training state.")
    part, tensors, passed_over = _chosen(path, content, ema)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > UNPACKED * len(data):
        raise CheckpointError(
            f"{path} was not loaded, because its {len(data)} bytes hold tensors of {size} bytes: values that stand "
            "for many; save copies of them (tensor.clone())."
        )
    return Checkpoint(
        path, hashlib.sha256(data).hexdigest(), part, tensors, passed_over, *_said(content), _class_names(content)
    )


def _read(path: Path) -> bytes:
    """A checkpoint's bytes: read once, so that what is hashed is what is used."""
    try:
        check_regular(path)
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(
                f"The checkpoint {path} has more than {_LARGEST >> 30} GiB; save the state dict alone."
            )
        with path.open("rb") as file:
            head = file.read(9)
            if not head:
                raise CheckpointError(f"The checkpoint {path} is empty (0 bytes); download it again.")
            if head[:2] != b"PK" and head[:1] != b"\x80" and head[8:] != b"{":
                raise CheckpointError(
                    f"{path} is not a checkpoint: wanted a PyTorch .pth or a .safetensors file, found one that begins "
                    f"with {head!r}."
                )
            file.seek(0)
            return file.read()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {shown(path)} cannot be read: {why(error)}.") from error
    except MemoryError as error:
        raise CheckpointError(f"The checkpoint {path} is larger than the memory that is free.") from error


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
        raise CheckpointError(f"Wanted hf://owner/repo or hf://owner/repo/file, found {shortened(source, 200)}.")
    hub = require("huggingface_hub", "hub")
    try:
        names = [name] if name else hub.list_repo_files(f"{owner}/{repo}")
        checkpoints = [n for n in names if n.endswith((".pth", ".safetensors"))]
        downloaded = hub.hf_hub_download(f"{owner}/{repo}", checkpoints[0]) if len(checkpoints) == 1 else None
    except Exception as error:  # huggingface_hub lets the exceptions of its HTTP client through
        raise CheckpointError(
            f"{shortened(source, 200)} could not be downloaded ({reason_of(error)}); fetch the file elsewhere and give "
            "its path with --checkpoint."
        ) from error
    if downloaded is None:
        named = ", ".join(shortened(f"hf://{owner}/{repo}/{n}", 100) for n in checkpoints[:6]) or "none"
        named += ", ..." if len(checkpoints) > 6 else ""
        raise CheckpointError(f"Wanted one .pth or .safetensors file at {source}, found {len(checkpoints)}: {named}.")
    return Path(downloaded)


def _safetensors(path: Path, data: bytes) -> dict[str, Tensor]:
    require("safetensors", "export")
    load = require("safetensors.torch", "export").load
    try:
        tensors: dict[str, Tensor] = load(data)
    except Exception as error:  # safetensors' own, and others for types that it does not know
        reason = f"no type {error} is known" if isinstance(error, KeyError) else shortened(reason_of(error), 300)
        raise CheckpointError(f"{path} is a damaged safetensors file ({reason}); download it again.") from error
    return dict(sorted(tensors.items()))  # safetensors gives them in another order each time


class _Model(NamedTuple):
    """A model's weights, somewhere in a file."""

    part: str
    """The part of the file: ``model``, ``ema.module``; empty for the file itself."""
    start: str
    """What the names of its tensors begin with, ``backbone.`` of a backbone included."""
    tensors: Mapping[str, Tensor]
    """All tensors of the part."""

    @property
    def name(self) -> str:
        """For people: ``state_dict``, ``state_dict: model.*``."""
        part = self.part or "state dict"
        return shortened(f"{part}: {self.start}*" if self.start else part, 60)

    @property
    def is_averaged(self) -> bool:
        return _AVERAGED.search(f"{self.part}.{self.start}".lower()) is not None

    @property
    def rank(self) -> int:
        first = self.part.partition(".")[0]
        return _WRAPPERS.index(first) if first in _WRAPPERS else len(_WRAPPERS) + bool(first)


def _chosen(path: Path, content: Mapping[Any, Any], ema: bool) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """The state dict that was asked for: the part's name, its tensors without wrappers, and what stands beside."""
    parts = dict(_parts(content))
    models = [
        _Model(part, name.removesuffix(_FIRST_LAYER), tensors)
        for part, tensors in parts.items()
        for name in tensors
        if f".{name}".endswith(f".{_FIRST_LAYER}")
    ]
    is_ours = bool(models)
    models = models or [_Model(part, "", tensors) for part, tensors in parts.items()]
    fitting = sorted((model for model in models if model.is_averaged == ema), key=lambda model: model.rank)
    held = ", ".join(shortened(key, 60) for key in [key for key in content if isinstance(key, str)][:8])
    if not fitting and ema:
        raise CheckpointError(f"{path} has no model_ema; it holds: {held}.")
    if not fitting and models:
        raise CheckpointError(f"{path} holds averaged weights alone ({models[0].name}); take them with --ema.")
    if not fitting:
        raise CheckpointError(f"{path} holds no state dict; it holds: {held}.")
    if is_ours and len(fitting) > 1:
        named = ", ".join(model.name for model in fitting[:4]) + (", ..." if len(fitting) > 4 else "")
        if fitting[0].rank == fitting[1].rank:
            raise CheckpointError(f"{path} holds several models ({named}); save the state dict of one.")
        warnings.warn(f"{path} holds weights at {named}; {fitting[0].name} is taken.", VimdeployWarning, stacklevel=3)
    part, start, tensors = fitting[0]
    wrapper = _wrapper(start, tensors)
    inside = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items() if name.startswith(wrapper)}
    beside = tuple(name for name in tensors if not name.startswith(wrapper))
    return part or "state dict", inside, beside


def _parts(content: Mapping[Any, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All that hold tensors, by where they stand: ``model``, ``ema.module``; no deeper than three names."""
    torch = require("torch", "export")
    to_see, seen = [("", content)], {id(content)}
    while to_see:
        part, mapping = to_see.pop(0)
        tensors: dict[str, Tensor] = {}
        for key, value in mapping.items():
            if not isinstance(key, str):
                continue
            if isinstance(value, Array):
                try:
                    value = torch.from_numpy(value.value())
                except (ValueError, TypeError):  # no numbers, so no weights
                    continue
            if isinstance(value, torch.Tensor):
                value = torch.Tensor.detach(value)  # without attributes that the file gave it
                if value.is_nested or (not value.dim() and "." not in key):  # no weight, or a number: n_averaged
                    continue
                name = ".".join(word for word in key.split(".") if word not in _PASSED_THROUGH)
                tensors[name if name not in tensors else key] = value
            elif isinstance(value, Mapping) and part.count(".") < 2 and id(value) not in seen:
                seen.add(id(value))
                to_see.append((f"{part}.{key}".removeprefix("."), value))
        if tensors:
            yield part, tensors


def _wrapper(start: str, tensors: Mapping[str, Tensor]) -> str:
    """How much of what a model's names begin with is a wrapper, and no name of a backbone."""
    kept = next((name for name in _BACKBONES if f".{start}".endswith(f".{name}")), "")
    is_whole = all(name.startswith(start) for name in tensors) and f"{start}cls_token" in tensors
    if f"{start}head.weight" in tensors or is_whole:  # a classifier that somebody called backbone
        kept = ""
    return start.removesuffix(kept)


def _said(content: Mapping[Any, Any]) -> tuple[str, tuple[int, int] | None]:
    """What a training state says of its model: the name, and height and width in pixels."""
    facts: dict[Any, Any] = {}
    for said in (content, *(content.get(key) for key in ("hyper_parameters", "config", "args"))):
        said = said.state if isinstance(said, Data) else said
        facts |= said if isinstance(said, Mapping) else {}
    names = [facts.get(key) for key in ("model", "model_name", "arch")]
    sizes = [facts.get(key) for key in ("input_size", "img_size", "image_size")]
    name = next((name for name in names if isinstance(name, str)), "")
    size = next((size for size in sizes if size is not None), None)
    sides = tuple(size)[-2:] if isinstance(size, (list, tuple)) else (size, size)  # timm's begins with the channels
    is_size = len(sides) == 2 and all(type(side) is int for side in sides)
    return shortened(name, 200), (sides[0], sides[1]) if is_size else None


def _class_names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names in mmsegmentation's ``meta``: ``CLASSES``, from 1.0 on ``dataset_meta`` and ``classes`` in it."""
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    newer = meta.get("dataset_meta")
    names = newer.get("classes") if isinstance(newer, Mapping) else meta.get("CLASSES")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(shortened(name, 200) for name in names)
