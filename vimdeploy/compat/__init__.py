"""Models that other people wrote for CUDA extensions, on any machine: ``with vimdeploy.compat.mamba():``."""

from vimdeploy.compat.block import mamba

__all__ = ["mamba"]
