"""Weights and inputs that follow from names and shapes, so that others can make the same (``helpers.references``)."""

import zlib

import numpy as np
import torch

from helpers.dense import toolbox_names


def rule_array(name, shape):
    """The values of a parameter of that name in a toolbox's checkpoint: alive, but of no use."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf in ("A_log", "A_b_log"):
        return np.log(np.arange(1, shape[-1] + 1, dtype=np.float32)) + 0.3 * noise
    if leaf in ("D", "D_b"):
        return 1 + 0.3 * noise
    if name.endswith(("dt_proj.bias", "dt_proj_b.bias")):
        dt = np.exp(np.log(1e-3) + (np.log(1e-1) - np.log(1e-3)) * (0.5 + 0.25 * np.tanh(noise)))
        return (dt + np.log(-np.expm1(-dt))).astype(np.float32)
    if "norm" in name and leaf == "weight":
        return 1 + 0.2 * noise
    if leaf == "running_var":
        return 0.5 + np.abs(noise)
    if leaf in ("bias", "running_mean"):
        return 0.1 * noise
    if len(shape) == 1:
        return 1 + 0.2 * noise
    if leaf in ("pos_embed", "cls_token"):
        return 0.3 * noise
    return noise / np.sqrt(np.prod(shape[1:])).astype(np.float32)


def rule_checkpoint(module, prefix, rope=0):
    """A network's tensors under a toolbox's names, with values by rule.

    Args:
        module: on meta tensors is enough.
        prefix: of the toolbox's backbone: ``backbone.`` or ``backbone.net.``.
        rope: rows of the rotary embedding's buffers; 0 if the model has none.
    """
    tensors = {
        name: torch.from_numpy(np.asarray(rule_array(name, tuple(tensor.shape)), np.float32))
        for name, tensor in toolbox_names(module, prefix).items()
    }
    if rope:
        dim = module.backbone.config.dim
        tensors |= {f"{prefix}rope.freqs_{wave}": torch.zeros(rope, dim) for wave in ("cos", "sin")}
    return tensors


def rule_input(size):
    """(1, 3, size, size)."""
    return np.random.default_rng(7).standard_normal((1, 3, size, size)).astype(np.float32)
