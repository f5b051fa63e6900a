"""The scan of ``vimdeploy.ops.torch_ops`` with a gradient of its own, for training on a CPU.

Autograd through the loop over the tokens makes the whole training take three times as long.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_suffix(".cpp")


class TrainingScan(torch.autograd.Function):
    """``TrainingScan.apply`` is ``torch_ops.scan_of_tokens`` in float32."""

    @staticmethod
    def forward(ctx: Any, dt: Tensor, dt_u: Tensor, A: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """(K, B, L, E), the same, (K, E, N), (K, B, L, N), the same -> y (K, B, L, E)."""
        inputs = [tensor.contiguous() for tensor in (dt, dt_u, A.transpose(1, 2), b, c)]
        ctx.save_for_backward(*inputs)
        y = torch.empty_like(inputs[0])
        _call("scan_forward", *inputs, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """The gradient of y -> those of the five inputs."""
        inputs = ctx.saved_tensors
        d_dt, d_dt_u, d_A, d_b, d_c = results = [torch.zeros_like(tensor) for tensor in inputs]
        _call("scan_backward", *inputs, gradients[0].contiguous(), *results)
        return d_dt, d_dt_u, d_A.transpose(1, 2), d_b, d_c


def _call(function: str, *tensors: Tensor) -> None:
    """Run one of the C++ functions; the third tensor and the first tell the sizes."""
    sizes = (*tensors[0].shape, tensors[2].shape[1])  # K, B, L, E, N
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    getattr(_library(), function)(*pointers, *map(ctypes.c_size_t, sizes))


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "training_scan.so")
        options = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-shared", "-fPIC"]
        subprocess.run(["c++", *options, _SOURCE, "-o", library], check=True)
        return ctypes.CDLL(str(library))
