"""Checkpoints of a Vim: which tensors belong to the backbone, and which model their shapes tell of.

| who wrote it | the backbone's tensors begin with | beside them |
|---|---|---|
| hustvl/Vim's classifiers | nothing | ``head.`` |
| ``state_dict()`` of our classifiers | ``backbone.`` | ``head.`` |
| mmsegmentation (its seg folder) | ``backbone.`` | a neck ``backbone.fpn*``, ``decode_head.``, ``auxiliary_head.`` |
| detectron2 (its det folder) | ``backbone.net.`` | ``backbone.simfp_*``, ``proposal_generator.``, ``roi_heads.`` |
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import CheckpointError, ConfigError, VimdeployWarning
from vimdeploy.models.architecture import CheckpointModel
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.text import shortened

if TYPE_CHECKING:
    from torch import Tensor

    from vimdeploy.checkpoint import Checkpoint

_LAYER = re.compile(r"layers\.(\d+)\.")
_NECK = re.compile(r"^backbone\.(?=fpn|simfp_)")
"""What mmsegmentation and detectron2 put before a neck's tensors."""
_COUNTER = ".num_batches_tracked"
"""How many steps a norm was trained: no weight."""
_OF_BACKBONE = re.compile(r"(patch_embed|layers)\.|(cls_token|pos_embed|norm_f\.weight|rope\.freqs_(cos|sin))$")


@dataclass(frozen=True)
class _Source:
    """Who wrote a checkpoint, and how that toolbox wires the backbone."""

    name: str
    prefix: str
    dense: bool
    """Whether the model has neither a class token nor a norm after the last block, and may have a rotary embedding."""


@dataclass(frozen=True)
class _Parts:
    """A checkpoint taken apart."""

    source: _Source
    own: Mapping[str, Tensor]
    """The backbone's tensors under their own names."""
    others: Mapping[str, Tensor]
    """All others, under the names of the file."""

    @property
    def tokens(self) -> int:
        """Rows of the position embedding."""
        return int(self.own["pos_embed"].shape[1])


_SOURCES = (
    _Source("detectron2", "backbone.net.", dense=True),
    _Source("mmsegmentation", "backbone.", dense=True),
    _Source("hustvl/Vim", "", dense=False),
)
_OURS = "head.weight"
"""What a classifier of ours has beside ``backbone.``, and no toolbox."""


def model_from_checkpoint(checkpoint: Checkpoint, variant: Variant) -> CheckpointModel:
    """The model that a checkpoint holds.

    Classes and image size are the file's (for square pictures, if the size is not the variant's); stride, scale and a
    classifier's class token, which shapes do not tell, are the variant's. A dense backbone's block feature follows
    hustvl/Vim: the mixer's output for mmsegmentation without a rotary embedding, the rotated residual with one, the
    residual for detectron2; the variant's, if it is not the default one.

    Raises:
        CheckpointError: if the file holds no Vim, or one of another variant: says which one fits; or if it says itself
            that it is not as the released variant is wired.
    """
    parts = _parts(checkpoint)
    found, fitting = _config_from_shapes(checkpoint, parts, variant.config), _fitting(checkpoint, parts, variant)
    if not fitting:
        raise CheckpointError(
            f"{checkpoint.path} is not a checkpoint of {variant.name}: {_misfit(checkpoint, parts, found, variant)}"
        )
    if not parts.source.dense:
        _check_what_it_says(checkpoint, found, variant)
    own = {f"backbone.{name}": tensor for name, tensor in parts.own.items() if not _is_unused(parts.source, name)}
    others = {_NECK.sub("neck.", name): name for name in parts.others if not name.endswith(_COUNTER)}
    unused = [f"{parts.source.prefix}{name}" for name in parts.own if _is_unused(parts.source, name)]
    tensors = own | {ours: parts.others[name] for ours, name in others.items()}
    return CheckpointModel(found, tensors, tuple(unused), {ours: name for ours, name in others.items() if ours != name})


def _misfit(checkpoint: Checkpoint, parts: _Parts, found: VimConfig, variant: Variant) -> str:
    """What a checkpoint has and a variant has not, and what to do."""
    wanted = _wired_like(parts, variant.config)
    with_its_channels = replace(variant, config=variant.config.replace(in_channels=found.in_channels))
    if found.in_channels != wanted.in_channels and _fitting(checkpoint, parts, with_its_channels):
        return (
            f"it takes pictures of {found.in_channels} channels, the variant takes {wanted.in_channels}. Describe it "
            f"in a NAME.json and give that as VARIANT: {_description(found)}."
        )
    others = [other.name for other in VARIANTS.values() if _fitting(checkpoint, parts, other)]
    hint = f"this file fits {others[0]}" if others else "it fits none of the released variants"
    told = ("dim", "depth", "num_classes", "image_size")
    more = [name for name in vars(wanted) if name not in told and getattr(wanted, name) != getattr(found, name)]
    return (
        f"wanted dim {wanted.dim}, depth {wanted.depth} and {wanted.tokens} tokens{_values(wanted, more)}, found dim "
        f"{found.dim}, depth {found.depth} and {parts.tokens} tokens{_values(found, more)}; {hint}."
    )


def _values(config: VimConfig, names: Iterable[str]) -> str:
    return "".join(f", {name} {getattr(config, name)}" for name in names)


def _description(config: VimConfig) -> str:
    """A NAME.json for a model, without the fields that have their defaults."""
    usual = VimConfig(dim=config.dim)
    numbers = {name: value for name, value in vars(config).items() if value != getattr(usual, name)}
    described: dict[str, Any] = {"config": {"dim": config.dim, **numbers}}
    if config.in_channels != usual.in_channels:
        values = f"{config.in_channels} values"
        described["recipe"] = {"mean": [values], "std": [values]}
    return json.dumps(described).replace(f'"{config.in_channels} values"', f"{config.in_channels} values")


def _check_what_it_says(checkpoint: Checkpoint, found: VimConfig, variant: Variant) -> None:
    """Hold what a training state says of its model against what its shapes do not tell.

    Raises:
        CheckpointError: if it contradicts a released variant; of a model that somebody described it is a warning.
    """
    said: dict[str, Any] = _wiring(checkpoint.model_name)
    if checkpoint.image_size is not None:
        said["image_size"] = checkpoint.image_size
    other = [name for name, value in said.items() if getattr(found, name) != value]
    if not other:
        return
    name = f" trained as {checkpoint.model_name}" if checkpoint.model_name else ""
    says = ", ".join(f"{name} {said[name]}" for name in other)
    differs = f"{checkpoint.path} says that it was{name or ' trained'} with {says}; {variant.name} has"
    differs += f" {', '.join(f'{name} {getattr(found, name)}' for name in other)}"
    released = VARIANTS.get(variant.name)
    if released is None or released.config != variant.config:
        warnings.warn(f"{differs}, which is taken.", VimdeployWarning, stacklevel=2)
        return
    try:
        cure = f": {_description(found.replace(**said))}"
    except ConfigError:  # what it says cannot be, so its owner has to find out what is
        cure = ""
    raise CheckpointError(f"{differs}. Describe the model in a NAME.json and give that as VARIANT{cure}.")


def _wiring(name: str) -> dict[str, Any]:
    """What the name of one of hustvl/Vim's entry points says, and shapes do not tell; nothing of another name."""
    if not name.startswith("vim_") or "bimambav2" not in name:
        return {}
    stride, patch = re.search(r"stride(\d{1,3})_", name), re.search(r"patch(\d{1,3})_", name)
    steps = stride or patch
    is_middle = "midclstok" in name or "middle_cls_token" in name
    return {
        **({"stride": int(steps[1])} if steps else {}),
        **({"class_token": "middle" if is_middle else "first"} if "cls" in name else {}),
        "direction_scale": 0.5 if "div2" in name else 1.0,
    }


def _is_unused(source: _Source, name: str) -> bool:
    """Whether a backbone's tensor is read by nobody: the rotation is computed, a dense model's norm unused upstream."""
    return source.dense and (name == "norm_f.weight" or name.startswith("rope."))


def variant_of(checkpoint: Checkpoint) -> Variant:
    """The released variant that a checkpoint holds, trained on square pictures of any size.

    Raises:
        CheckpointError: if the file holds no Vim, or another one.
    """
    parts = _parts(checkpoint)
    for variant in VARIANTS.values():
        found = _config_from_shapes(checkpoint, parts, variant.config)
        if _fitting(checkpoint, parts, variant):
            return variant
    raise CheckpointError(
        f"{checkpoint.path} fits none of the released variants: it has dim {found.dim} and depth {found.depth}; "
        "say what it is with --variant NAME.json."
    )


def _parts(checkpoint: Checkpoint) -> _Parts:
    tensors = checkpoint.tensors
    if _OURS in tensors:
        tensors = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    marker = "patch_embed.proj.weight"
    source = next((source for source in _SOURCES if source.prefix + marker in tensors), _SOURCES[-1])
    if not source.prefix:  # what stands beside the backbone of a classifier is its head, and unknown names are errors
        others = {name: tensor for name, tensor in tensors.items() if name.startswith("head.")}
        return _Parts(source, {name: tensor for name, tensor in tensors.items() if name not in others}, others)
    own = {
        short: tensor
        for name, tensor in tensors.items()
        if name.startswith(source.prefix) and _OF_BACKBONE.match(short := name.removeprefix(source.prefix))
    }
    others = {name: tensor for name, tensor in tensors.items() if name.removeprefix(source.prefix) not in own}
    return _Parts(source, own, others)


def _fitting(checkpoint: Checkpoint, parts: _Parts, variant: Variant) -> bool:
    """Whether a checkpoint is of a variant: at the variant's size, or at another one that is no released variant's."""
    if _differs_in_classes_alone(checkpoint, parts, variant):
        return True
    if any(_differs_in_classes_alone(checkpoint, parts, other) for other in VARIANTS.values()):
        return False
    found, wanted = _config_from_shapes(checkpoint, parts, variant.config), _wired_like(parts, variant.config)
    is_square = found.tokens == parts.tokens
    return is_square and found.replace(num_classes=wanted.num_classes, image_size=wanted.image_size) == wanted


def _differs_in_classes_alone(checkpoint: Checkpoint, parts: _Parts, variant: Variant) -> bool:
    found, wanted = _config_from_shapes(checkpoint, parts, variant.config), _wired_like(parts, variant.config)
    return found.tokens == parts.tokens and found.replace(num_classes=wanted.num_classes) == wanted


def _wired_like(parts: _Parts, config: VimConfig) -> VimConfig:
    """A config as the toolbox that wrote a checkpoint wires it."""
    return config.replace(**_dense_wiring(parts, config)) if parts.source.dense else config


def _dense_wiring(parts: _Parts, config: VimConfig) -> dict[str, Any]:
    """How hustvl/Vim's seg and det folders wire a backbone."""
    rotary = "rope.freqs_cos" in parts.own
    upstream = "residual" if parts.source.name == "detectron2" else "rotated" if rotary else "mixer"
    return {
        "class_token": "none",
        "final_norm": False,
        "rotary": rotary,
        "block_feature": upstream if config.block_feature == "residual" else config.block_feature,
    }


def _config_from_shapes(checkpoint: Checkpoint, parts: _Parts, like: VimConfig) -> VimConfig:
    """The config of a checkpoint whose stride and scale, and whose class token if it has one, are those of ``like``."""
    own, others = parts.own, parts.others
    try:
        if not all(size for tensor in own.values() for size in tensor.shape):
            raise ValueError  # a tensor without values
        _, tokens, dim = own["pos_embed"].shape
        _, in_channels, patch_size, _ = own["patch_embed.proj.weight"].shape
        channels, state_size = own["layers.0.mixer.A_log"].shape
        classes, _ = others["head.weight"].shape if "head.weight" in others else (like.num_classes, dim)
        numbers = {
            "in_channels": in_channels,
            "patch_size": patch_size,
            "dim": dim,
            "depth": 1 + max(int(match[1]) for match in map(_LAYER.match, own) if match),
            "num_classes": classes,
            "state_size": state_size,
            "conv_width": own["layers.0.mixer.conv1d.weight"].shape[-1],
            "expand": channels // dim,
            "dt_rank": own["layers.0.mixer.dt_proj.weight"].shape[-1],
        }
        side = math.isqrt(tokens - ("cls_token" in own))
        stride = min(like.stride, patch_size)
        like = _wired_like(parts, like)
        if "cls_token" not in own:
            like = like.replace(class_token="none")
        is_like = tokens == like.tokens and patch_size == like.patch_size
        size = like.image_size if is_like else ((side - 1) * stride + patch_size,) * 2
        return like.replace(**numbers, stride=stride, image_size=size)
    except (KeyError, ValueError, IndexError) as error:
        fault = (
            f"{error} is not there" if isinstance(error, KeyError) else "a tensor is not of the shape it should have"
        )
        names = ", ".join(shortened(name, 60) for name in list(checkpoint.tensors)[:4])
        raise CheckpointError(
            f"{checkpoint.path} holds no Vim of two directions: {fault}. Its {len(checkpoint.tensors)} tensors begin "
            f"with: {names}."
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint.path} holds no Vim that can be: {error}") from error
