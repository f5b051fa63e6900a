"""What modules that are installed have for the GPU alone, and what answers anywhere in its place."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from vimdeploy.compat.conv import causal_conv1d_fn, causal_conv1d_fwd_into
from vimdeploy.compat.norms import layer_norm_fn, layer_norm_fwd, layer_norm_fwd_before, rms_norm_fn
from vimdeploy.compat.scan import selective_scan_of_transformers, selective_state_update
from vimdeploy.compat.stand_ins import EXTENSIONS, is_stand_in, stand_in

_NORMS = {"layer_norm_fn": layer_norm_fn, "rms_norm_fn": rms_norm_fn, "_layer_norm_fwd": layer_norm_fwd}
_TRANSFORMERS = {"mamba_selective_scan": selective_scan_of_transformers, "causal_conv1d_fn": causal_conv1d_fn}

_OURS: Mapping[str, Mapping[str, Any]] = {
    **{
        name: {key: function for key, function in contents.items() if "fwd" in key}
        for name, contents in EXTENSIONS.items()
    },
    "causal_conv1d.cpp_functions": {"_causal_conv1d_fwd_cpp": causal_conv1d_fwd_into},
    "transformers.models.falcon_mamba.modeling_falcon_mamba": _TRANSFORMERS,
    "transformers.models.mamba.modeling_mamba": _TRANSFORMERS,
    ".ops.selective_scan_interface": {"selective_scan_cuda": stand_in("selective_scan_cuda")},
    ".ops.triton.layer_norm": _NORMS,
    ".ops.triton.layernorm": _NORMS,
    ".ops.triton.selective_state_update": {"selective_state_update": selective_state_update},
}
"""By the name of a module, or its end if that begins with a dot, for forks of ``mamba_ssm`` have names of their own."""

_ENDS = tuple(name for name in _OURS if name.startswith("."))
_NOT_THERE = ()


def has_answers(name: str) -> bool:
    """Whether a module of that name has functions for the GPU alone."""
    return name in _OURS or name.endswith(_ENDS)


def answers(name: str, module: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of an installed module, and what is to be there.

    A function that works goes on computing what lies on a GPU; ours answers for a tensor on a CPU, and while a model is
    exported. Triton's functions are ours altogether if Triton is not installed, and so is what is None because its
    import failed.
    """
    if not has_answers(name):
        return
    ours_by_key = _OURS[name] if name in _OURS else next(_OURS[end] for end in _ENDS if name.endswith(end))
    for key, ours in ours_by_key.items():
        installed = getattr(module, key, _NOT_THERE)
        if installed is None:
            yield key, ours
        elif callable(installed):
            ours = _of_the_same_release(installed, ours)
            without_triton = ".triton." in name and is_stand_in("triton", sys.modules.get("triton"))
            yield key, ours if without_triton else _by_device(installed, ours)


def _by_device(installed: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(installed)
    def answer(*arguments: Any, **options: Any) -> Any:
        tensor = arguments[0] if arguments else next(iter(options.values()))
        function = installed if tensor.is_cuda and not torch.onnx.is_in_onnx_export() else ours
        return function(*arguments, **options)

    return answer


def _of_the_same_release(installed: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """Ours, or for an older ``_layer_norm_fwd`` the one that gives what the older one gave."""
    if ours is layer_norm_fwd and "x1" not in inspect.signature(installed).parameters:
        return layer_norm_fwd_before
    return ours
