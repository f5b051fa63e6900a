"""Pictures to feature maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone


class FeatureExtractor(nn.Module):
    """A backbone's maps and pooled vector as they are: (B, C, H, W) float32 -> (B, D, rows, columns), (B, D), ..."""

    def __init__(self, backbone: Backbone, blocks: Sequence[int] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.blocks = tuple(blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The last map, the pooled vector, and the maps of the blocks that were asked for, in that order."""
        features = self.backbone.features(images, self.blocks)
        return (features.map, features.pooled, *features.blocks)
