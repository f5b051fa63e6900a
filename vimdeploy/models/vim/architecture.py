"""Vision Mamba as an architecture: see ``models.architecture``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vimdeploy.models.architecture import Architecture, CheckpointModel
from vimdeploy.models.stages import StageSpec
from vimdeploy.models.variant import Variant, checked_fields
from vimdeploy.models.vim.config import VARIANTS, VimConfig
from vimdeploy.models.vim.keys import model_from_checkpoint
from vimdeploy.models.vim.stages import stages_of
from vimdeploy.ops.contract import BIDIRECTIONAL_CONV1D, BIDIRECTIONAL_SCAN

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vimdeploy.checkpoint import Checkpoint
    from vimdeploy.models.vim.network import Vim


class VimArchitecture(Architecture):
    """hustvl/Vim: classifiers as released, backbones of segmentation and detection."""

    name = "vim"
    variants = VARIANTS
    operators = (BIDIRECTIONAL_CONV1D.name, BIDIRECTIONAL_SCAN.name)

    def config(self, numbers: Mapping[str, Any]) -> VimConfig:
        """A ``VimConfig``."""
        return VimConfig(**checked_fields(VimConfig, numbers))

    def backbone(self, config: VimConfig, any_size: bool = False) -> Vim:
        """A ``Vim``."""
        from vimdeploy.models.vim.network import Vim

        return Vim(config, any_size)

    def dense(self, config: VimConfig) -> VimConfig:
        """Without a class token and a last norm, as in hustvl/Vim's seg and det folders."""
        return config.replace(class_token="none", final_norm=False)

    def reset_parameters(self, network: nn.Module) -> None:
        """As upstream does."""
        from vimdeploy.models.vim.network import reset_parameters

        reset_parameters(network)

    def from_checkpoint(self, checkpoint: Checkpoint, variant: Variant) -> CheckpointModel:
        """Released classifiers, and backbones of mmsegmentation's and detectron2's checkpoints."""
        return model_from_checkpoint(checkpoint, variant)

    def at_image_size(
        self, tensors: dict[str, Tensor], config: VimConfig, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """With the position embedding of another size."""
        from vimdeploy.models.vim.network import resize_pos_embed

        rows, columns = config.replace(image_size=image_size).grid
        name = "backbone.pos_embed"
        return tensors | {name: resize_pos_embed(tensors[name], config, rows, columns)}

    def stages(self, config: VimConfig, any_size: bool = False) -> tuple[StageSpec, ...]:
        """As of ``models.vim.stages``."""
        return stages_of(config, any_size)
