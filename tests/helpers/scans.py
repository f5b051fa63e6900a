"""Random inputs of the operators that scan groups."""

import numpy as np
import torch

FLOAT32 = ("A", "D", "delta_bias")
"""The inputs that are float32 whatever the others are."""


def group_inputs(*, B=2, G=2, L=7, E=5, N=3, R=0, seed=0):
    """{input: float64 array} of SelectiveScan, or with a rank of LowRankSelectiveScan."""
    rng = np.random.default_rng(seed)
    shapes = {
        "u": (B, G, L, E),
        "delta": (B, G, L, R or E),
        "A": (G, E, N),
        "B": (B, G, L, N),
        "C": (B, G, L, N),
        "D": (G, E),
        "delta_bias": (G, E),
    } | ({"delta_weight": (G, E, R)} if R else {})
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays["A"] = -np.exp(arrays["A"])
    for positive in {"delta", "delta_weight"} & arrays.keys():  # most steps, also without a softplus
        arrays[positive] = np.abs(arrays[positive])
    return arrays


def torched(arrays, dtype=torch.float32):
    """A list or a dictionary of arrays as tensors of a type, but for what is float32 in any case."""
    if isinstance(arrays, dict):
        return {
            name: torch.from_numpy(array).to(torch.float32 if name in FLOAT32 else dtype)
            for name, array in arrays.items()
        }
    return [torch.from_numpy(array).to(dtype) for array in arrays]
