"""The compiled kernels for tensors of PyTorch, by the C functions of the library for ONNX Runtime.

They take pointers, so the library is built against no PyTorch and fits every one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vimdeploy.errors import ExecutionError
from vimdeploy.libraries import architectures_cover, library_info, library_path
from vimdeploy.ops.contract import FLOAT_TYPES

_INPUTS = 8
"""As many as the function with most of them takes; one that is not given is NULL."""

_TYPES = tuple(getattr(torch, name) for name in FLOAT_TYPES)
"""In the order of the C functions' numbers."""

_Function = Callable[..., bytes | None]


def selective_scan(
    inputs: Sequence[Tensor], reverse: Sequence[int], delta_softplus: bool, with_state: bool
) -> tuple[Tensor, Tensor | None] | None:
    """``torch_ops.selective_scan`` by the compiled kernels.

    Args:
        inputs: the operator's, found right, on one device.
        with_state: whether the last state is wanted.

    Returns:
        y (B, G, L, E), and the last state (B, G, E, N) if it is wanted and not on a GPU, whose kernels do not keep it;
        None if there are no kernels for these tensors.

    Raises:
        ExecutionError: if the kernels give up.
    """
    u, delta, A, *_ = inputs
    compute = _function("VimdeploySelectiveScan", inputs)
    if compute is None:
        return None
    y = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    state = None
    if with_state and not u.is_cuda:
        state = torch.empty((*u.shape[:2], *A.shape[1:]), dtype=torch.float32)
    rank = delta.shape[-1] if len(inputs) == _INPUTS else 0
    _call(compute, (*u.shape, A.shape[-1], rank), reverse, delta_softplus, inputs, (y, state))
    return y, state


def causal_conv1d(inputs: Sequence[Tensor], reverse: Sequence[int], silu: bool) -> Tensor | None:
    """``torch_ops.causal_conv1d`` by the compiled kernels.

    Args:
        inputs: the operator's, found right, on one device.

    Returns:
        u (K, B, L, E); None if there are no kernels for these tensors.

    Raises:
        ExecutionError: if the kernels give up.
    """
    x, weight, _ = inputs
    compute = _function("VimdeployCausalConv1d", inputs)
    if compute is None:
        return None
    directions, channels, _ = weight.shape
    u = torch.empty((directions, *x.shape[:2], channels), dtype=x.dtype, device=x.device)
    _call(compute, (*x.shape, *weight.shape), reverse, silu, inputs, (u,))
    return u


def _function(name: str, inputs: Sequence[Tensor]) -> _Function | None:
    """The C function for these tensors; None if the library is not there, is older than the function, or was built
    without code for their device.
    """
    if not all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in inputs):
        return None  # a tensor that only stands for another has no memory of its own
    device = inputs[0].device
    if device.type == "cpu":
        return _loaded(name)
    if device.type == "cuda" and _has_code_for(device.index):
        return _loaded(f"{name}Cuda")
    return None


@cache
def _loaded(name: str) -> _Function | None:
    path = library_path()
    if path is None:
        return None
    try:
        function: Any = getattr(ctypes.CDLL(str(path)), name)
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_char_p
    return function


@cache
def _has_code_for(gpu: int) -> bool:
    major, minor = torch.cuda.get_device_capability(gpu)
    return architectures_cover((library_info() or {}).get("cuda_architectures", ()), f"{major}.{minor}")


def _call(
    compute: _Function,
    sizes: Sequence[int],
    reverse: Sequence[int],
    flag: bool,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor | None],
) -> None:
    dense = [tensor.contiguous() for tensor in inputs]  # kept until the call has returned
    device = dense[0].device
    place: tuple[int | ctypes.c_void_p, ...] = (torch.get_num_threads(),)
    if device.type == "cuda":
        place = device.index, ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
    error = compute(
        _TYPES.index(dense[0].dtype),
        (ctypes.c_int64 * len(sizes))(*sizes),
        (ctypes.c_int64 * len(reverse))(*reverse),
        int(flag),
        (ctypes.c_void_p * _INPUTS)(*(tensor.data_ptr() for tensor in dense)),
        *(None if tensor is None else ctypes.c_void_p(tensor.data_ptr()) for tensor in outputs),
        *place,
    )
    if error:
        raise ExecutionError(f"The compiled operators gave up: {error.decode(errors='replace')}.")
