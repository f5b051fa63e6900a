"""Checkpoints in the form in which hustvl/Vim releases them: a whole training state."""

import argparse

import torch


def released_names(model):
    """A classifier's tensors under the names of hustvl/Vim, which has no ``backbone.``."""
    return {name.removeprefix("backbone."): tensor for name, tensor in model.state_dict().items()}


def training_state(model, ema=None):
    """All that a training run saves, with the weights of ``model`` in it."""
    averaged = released_names(model if ema is None else ema)
    first = next(iter(averaged.values()))
    return {
        "model": released_names(model),
        "optimizer": {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros_like(first)}},
            "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999), "params": [0]}],
        },
        "lr_scheduler": {"param_group_field": "lr", "base_values": [1e-5]},
        "epoch": 299,
        "model_ema": averaged,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "args": argparse.Namespace(model="vim", batch_size=128, lr=1e-5, drop_path=None, distributed=True),
    }
