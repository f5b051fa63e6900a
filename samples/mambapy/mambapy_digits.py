"""Handwritten digits by mambapy's Vision Mamba: a model as somebody else has it, which knows nothing of vimdeploy."""

from __future__ import annotations

from pathlib import Path

import torch
from mambapy.vim import MambaConfig, VMamba
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.safetensors")


class Digits(nn.Module):
    """Pictures (B, 1, 8, 8) -> logits (B, 10): 16 patches of 2 x 2 pixels, three bidirectional blocks, their mean.

    Args:
        use_cuda: scan by mamba_ssm's CUDA kernel, not by mambapy's own scan in PyTorch.
    """

    def __init__(self, use_cuda: bool, dim: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, dim) / 50)
        self.blocks = VMamba(MambaConfig(d_model=dim, n_layers=depth, use_cuda=use_cuda))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        """What the pictures show."""
        tokens = self.patches(pictures).flatten(2).transpose(1, 2) + self.position  # (B, 16, dim)
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


def make(use_cuda: bool = True) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The trained model, and two pictures to trace it with."""
    model = Digits(use_cuda)
    model.load_state_dict(load_file(WEIGHTS))
    return model, (pictures_and_digits(held_out=True)[0][:2],)


def pictures_and_digits(held_out: bool) -> tuple[Tensor, Tensor]:
    """Pictures (n, 1, 8, 8) from -1 to 1 and their digits (n,): the quarter that training never sees, or the rest."""
    digits = load_digits()
    pixels = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    classes = torch.tensor(digits.target)
    parts = train_test_split(torch.arange(len(classes)), test_size=0.25, random_state=0, stratify=digits.target)
    chosen = parts[1] if held_out else parts[0]
    return pixels[chosen], classes[chosen]
