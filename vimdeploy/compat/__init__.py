"""Models that other people wrote for CUDA extensions, on any machine: ``with vimdeploy.compat.mamba():``."""

from vimdeploy.errors import require

require("torch", "export")

from vimdeploy.compat.block import mamba  # noqa: E402  # needs it

__all__ = ["mamba"]
