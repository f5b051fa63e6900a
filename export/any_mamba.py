"""A model that somebody wrote for CUDA, unmodified, to ONNX.

python export/any_mamba.py theirs.onnx
vimdeploy export export/any_mamba.py:make -o theirs.onnx
"""

import sys

import torch
from torch import Tensor, nn

import vimdeploy


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Put their model here, and what to call it with."""
    from mamba_ssm import Mamba

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 64), Mamba(64), nn.LayerNorm(64)), (torch.randn(2, 196, 48),)


def main(onnx_path: str) -> None:
    """Module -> ONNX file, compared with PyTorch before it is written."""
    with vimdeploy.compat.mamba():  # stand-ins for mamba_ssm and its kernels where they are not installed
        model, inputs = make()
    made = vimdeploy.export(model.eval(), inputs, onnx_path)
    print(made.artifact, [f"{result.worst.relative:.1e}" for result in made.parity])


if __name__ == "__main__":
    main(*sys.argv[1:])
