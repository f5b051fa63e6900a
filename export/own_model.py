"""A PyTorch model of your own to ONNX: one that calls our operators where it would call CUDA kernels.

python export/own_model.py own_model.onnx
"""

import sys

import torch
from torch import nn

import vimdeploy
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.networks import Network
from vimdeploy.ops.torch_ops import bidirectional_conv1d


class Model(nn.Module):
    """Put your model here: tokens (B, L, 2E) -> (B, L, E)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, channels, 4) / 4)
        self.bias = nn.Parameter(torch.zeros(2, channels))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """A convolution over the tokens each way, with SiLU, and their sum."""
        return bidirectional_conv1d(tokens, self.weight, self.bias, reverse=(0, 1)).sum(0)


def main(onnx_path: str) -> None:
    """Module -> ONNX file, compared with PyTorch before it is written."""
    inputs, outputs = TensorSpec("tokens", ("batch", 64, 96)), TensorSpec("mixed", ("batch", 64, 48))
    made = vimdeploy.export(Network(Model(48), ModelInfo("own model", (inputs,), (outputs,))), onnx_path)
    print(made.artifact, [f"{result.worst.relative:.1e}" for result in made.parity])


if __name__ == "__main__":
    main(*sys.argv[1:])
