"""DeiT as an architecture: see ``models.architecture``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import CheckpointError, ConfigError
from vimdeploy.models.architecture import Architecture, CheckpointModel
from vimdeploy.models.deit.config import VARIANTS, DeiTConfig
from vimdeploy.models.variant import Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vimdeploy.checkpoint import Checkpoint
    from vimdeploy.models.deit.network import DeiT


class DeiTArchitecture(Architecture):
    """The attention model that Vim is compared with."""

    name = "deit"
    variants = VARIANTS

    def config(self, numbers: Mapping[str, Any]) -> DeiTConfig:
        """A ``DeiTConfig``."""
        return DeiTConfig(**numbers)

    def backbone(self, config: DeiTConfig, any_size: bool = False) -> DeiT:
        """A ``DeiT``, of one image size."""
        from vimdeploy.models.deit.network import DeiT

        if any_size:
            raise ConfigError("DeiT is exported for one image size: give --image-size HxW.")
        return DeiT(config)

    def reset_parameters(self, network: nn.Module) -> None:
        """Nothing: torch's own initial weights do for a baseline."""

    def from_checkpoint(self, checkpoint: Checkpoint, variant: Variant) -> CheckpointModel:
        """A released classifier, at the variant's image size."""
        tensors, wanted = checkpoint.tensors, variant.config
        try:
            tokens, dim = tensors["pos_embed"].shape[1:]
            depth = 1 + max(int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name)))
            classes = tensors["head.weight"].shape[0]
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{checkpoint.path} holds no DeiT: {error} is not there.") from error
        if (tokens, dim, depth) != (wanted.tokens, wanted.dim, wanted.depth):
            raise CheckpointError(
                f"{checkpoint.path} is not a checkpoint of {variant.name}: wanted dim {wanted.dim}, depth {wanted.depth} "
                f"and {wanted.tokens} tokens, found dim {dim}, depth {depth} and {tokens} tokens."
            )
        named = {name if name.startswith("head.") else f"backbone.{name}": tensor for name, tensor in tensors.items()}
        return CheckpointModel(wanted.replace(num_classes=classes), named)

    def at_image_size(
        self, tensors: dict[str, Tensor], config: DeiTConfig, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """With the position embedding of another size (bicubic; the class token's row stays first)."""
        import torch
        import torch.nn.functional as F

        rows = tensors["backbone.pos_embed"]
        grid = rows[:, 1:].transpose(1, 2).unflatten(2, config.grid)
        size = config.replace(image_size=image_size).grid
        resized = F.interpolate(grid, size=size, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
        return tensors | {"backbone.pos_embed": torch.cat([rows[:, :1], resized], dim=1)}
