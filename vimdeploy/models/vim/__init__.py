"""Vision Mamba (https://arxiv.org/abs/2401.09417)."""
