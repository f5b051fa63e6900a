"""Pictures to logits."""

from __future__ import annotations

from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone


class Classifier(nn.Module):
    """One Linear layer on the pooled vector: (B, C, H, W) float32 -> logits (B, classes) float32."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.dim, backbone.config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        return self.head(self.backbone.pooled(images))
