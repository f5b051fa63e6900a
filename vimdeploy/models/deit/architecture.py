"""DeiT as an architecture: see ``models.architecture``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import CheckpointError
from vimdeploy.models.architecture import Architecture, CheckpointModel
from vimdeploy.models.deit.config import VARIANTS, DeiTConfig
from vimdeploy.models.variant import Variant, checked_fields
from vimdeploy.text import shortened

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vimdeploy.checkpoint import Checkpoint
    from vimdeploy.models.deit.network import DeiT


_BLOCK = re.compile(r"blocks\.(\d+)\.")


class DeiTArchitecture(Architecture):
    """The attention model that Vim is compared with."""

    name = "deit"
    variants = VARIANTS

    def config(self, numbers: Mapping[str, Any]) -> DeiTConfig:
        """A ``DeiTConfig``."""
        return DeiTConfig(**checked_fields(DeiTConfig, numbers))

    def backbone(self, config: DeiTConfig, any_size: bool = False) -> DeiT:
        """A ``DeiT``."""
        from vimdeploy.models.deit.network import DeiT

        return DeiT(config, any_size)

    def reset_parameters(self, network: nn.Module) -> None:
        """Nothing: torch's own initial weights do for a baseline."""

    def from_checkpoint(self, checkpoint: Checkpoint, variant: Variant) -> CheckpointModel:
        """A released classifier, at the variant's image size."""
        tensors, wanted = checkpoint.tensors, variant.config
        blocks = [int(match[1]) for match in map(_BLOCK.match, tensors) if match]
        is_deit = "pos_embed" in tensors and tensors["pos_embed"].dim() == 3 and blocks
        if not is_deit or ("head.weight" in tensors and not tensors["head.weight"].dim()):
            raise CheckpointError(
                f"{checkpoint.path} holds no DeiT: wanted pos_embed (1, tokens, dim) and blocks, found {len(tensors)} "
                f"tensors that begin with: {', '.join(shortened(name, 60) for name in list(tensors)[:4])}."
            )
        _, tokens, dim = tensors["pos_embed"].shape
        depth, classes = 1 + max(blocks), wanted.num_classes
        if "head.weight" in tensors:
            classes = tensors["head.weight"].shape[0]
        found = (dim, depth, tokens)
        if found != _shape(wanted):
            fitting = [other.name for other in VARIANTS.values() if found == _shape(other.config)]
            hint = f"this file fits {fitting[0]}" if fitting else "it fits none of the released variants"
            raise CheckpointError(
                f"{checkpoint.path} is not a checkpoint of {variant.name}: wanted dim {wanted.dim}, depth "
                f"{wanted.depth} and {wanted.tokens} tokens, found dim {dim}, depth {depth} and {tokens} tokens; "
                f"{hint}."
            )
        named = {name if name.startswith("head.") else f"backbone.{name}": tensor for name, tensor in tensors.items()}
        return CheckpointModel(wanted.replace(num_classes=classes), named)

    def at_image_size(
        self, tensors: dict[str, Tensor], config: DeiTConfig, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """With the position embedding of another size."""
        from vimdeploy.models.deit.network import resize_pos_embed

        rows, columns = config.replace(image_size=image_size).grid
        name = "backbone.pos_embed"
        return tensors | {name: resize_pos_embed(tensors[name], config, rows, columns)}


def _shape(config: DeiTConfig) -> tuple[int, int, int]:
    """What the shapes of a checkpoint tell."""
    return config.dim, config.depth, config.tokens
