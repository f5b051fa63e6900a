"""Which modules vimdeploy stands in for, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch

from vimdeploy.compat.conv import (
    causal_conv1d_fn,
    causal_conv1d_fwd,
    causal_conv1d_fwd_function,
    causal_conv1d_update,
)
from vimdeploy.compat.inner import bimamba_inner_fn, mamba_inner_fn, mamba_inner_fn_no_out_proj
from vimdeploy.compat.mamba_simple import Mamba
from vimdeploy.compat.norms import RMSNorm, layer_norm_fn, layer_norm_fwd, rms_norm_fn
from vimdeploy.compat.refusals import BACKWARD, MAMBA_2, refusing, refusing_module
from vimdeploy.compat.scan import (
    fwd,
    fwd_core,
    fwd_oflex,
    selective_scan_fn,
    selective_scan_without_gate,
    selective_state_update,
)
from vimdeploy.compat.triton_stub import TRITON, Language

Contents = dict[str, Any]


@dataclass
class InferenceParams:
    """``mamba_ssm.utils.generation.InferenceParams``."""

    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    batch_size_offset: int = 0
    key_value_memory_dict: dict[int, Any] = field(default_factory=dict)
    lengths_per_sample: torch.Tensor | None = None


class GenerationMixin:
    """``mamba_ssm.utils.generation.GenerationMixin``, for classes that inherit it without generating text."""

    generate = refusing("generate", "vimdeploy runs vision models and generates no text")


def _extension(name: str, **functions: Callable[..., Any]) -> Contents:
    """A compiled module: its forward functions, and the backward ones, which refuse."""
    backward = {function.replace("fwd", "bwd") for function in functions if "fwd" in function}
    return {**functions, **{function: refusing(f"{name}.{function}", BACKWARD) for function in backward}}


def _of_mamba_2(*functions: str) -> Contents:
    return {name: refusing(name, MAMBA_2) for name in functions}


def _flop_counters(*names: str) -> Contents:
    return {name: refusing(f"fvcore.nn.{name}", "fvcore is not installed: pip install fvcore") for name in names}


_WHOLE_SEQUENCES = "vimdeploy stands in for this extension, and only for its pass over whole sequences"
_WITHOUT_STATES = refusing("selective_scan_cuda_ndstate.fwd", "vimdeploy has no scan without an axis of states")

EXTENSIONS: Mapping[str, Contents] = {
    "selective_scan_cuda": _extension("selective_scan_cuda", fwd=fwd),
    "selective_scan_cuda_core": _extension("selective_scan_cuda_core", fwd=fwd_core),
    "selective_scan_cuda_nrow": _extension("selective_scan_cuda_nrow", fwd=fwd_core),
    "selective_scan_cuda_oflex": _extension("selective_scan_cuda_oflex", fwd=fwd_oflex),
    "selective_scan_cuda_ndstate": _extension("selective_scan_cuda_ndstate", fwd=_WITHOUT_STATES),
    "causal_conv1d_cuda": _extension(
        "causal_conv1d_cuda",
        causal_conv1d_fwd=causal_conv1d_fwd,
        causal_conv1d_update=refusing("causal_conv1d_cuda.causal_conv1d_update", _WHOLE_SEQUENCES),
    ),
}
"""Compiled modules. One that is installed and cannot be imported is as good as none."""

_CONV = {
    "causal_conv1d_fn": causal_conv1d_fn,
    "causal_conv1d_ref": causal_conv1d_fn,
    "causal_conv1d_update": causal_conv1d_update,
    "causal_conv1d_update_ref": causal_conv1d_update,
}

SHADOWED: Mapping[str, Contents] = {
    "causal_conv1d": {"causal_conv1d_fn": causal_conv1d_fn, "causal_conv1d_update": causal_conv1d_update},
    "causal_conv1d.causal_conv1d_interface": _CONV,
    "causal_conv1d.cpp_functions": {
        "causal_conv1d_fwd_function": causal_conv1d_fwd_function,
        "causal_conv1d_bwd_function": refusing("causal_conv1d_bwd_function", BACKWARD),
        "causal_conv1d_update_function": causal_conv1d_update,
    },
}
"""Modules in whose place the stand-in is taken although they work: from 1.5 on, causal_conv1d wraps its extension in a
PyTorch operator that writes into its arguments, and such an operator cannot be exported."""

_SCAN = {
    "selective_scan_fn": selective_scan_fn,
    "selective_scan_ref": selective_scan_fn,
    "mamba_inner_fn": mamba_inner_fn,
    "mamba_inner_ref": mamba_inner_fn,
    "mamba_inner_fn_no_out_proj": mamba_inner_fn_no_out_proj,
    "bimamba_inner_fn": bimamba_inner_fn,
    "bimamba_inner_ref": bimamba_inner_fn,
}
_NORMS = {
    "RMSNorm": RMSNorm,
    "layer_norm_fn": layer_norm_fn,
    "rms_norm_fn": rms_norm_fn,
    "_layer_norm_fwd": layer_norm_fwd,
}
_MAMBA_2, _MAMBA_3 = refusing_module("Mamba2", MAMBA_2), refusing_module("Mamba3", MAMBA_2)
_LANGUAGE_MODEL = refusing_module("MambaLMHeadModel", "vimdeploy runs vision models, and this one is of language")

UNUSED: Mapping[str, Contents] = {
    "mamba_ssm.models.mixer_seq_simple": {"MambaLMHeadModel": _LANGUAGE_MODEL},
    "mamba_ssm.modules.mamba2": {"Mamba2": _MAMBA_2},
    "mamba_ssm.modules.mamba2_simple": {"Mamba2Simple": refusing_module("Mamba2Simple", MAMBA_2)},
    "mamba_ssm.modules.mamba3": {"Mamba3": _MAMBA_3},
    "mamba_ssm.ops.triton.layernorm_gated": {"RMSNorm": refusing_module("RMSNormGated", MAMBA_2)},
    "mamba_ssm.ops.triton.ssd_combined": _of_mamba_2(
        "mamba_chunk_scan_combined", "mamba_split_conv1d_scan_combined", "mamba_chunk_scan", "ssd_selective_scan"
    ),
    "mamba_ssm.utils.generation": {"GenerationMixin": GenerationMixin, "InferenceParams": InferenceParams},
    "mamba_ssm.utils.hf": {
        name: refusing(name, "vimdeploy downloads nothing for a model; read the checkpoint from a file")
        for name in ("load_config_hf", "load_state_dict_hf")
    },
}
"""Modules that vision models import, or that are imported along with what they need, and that compute nothing for them.
One that is installed and cannot be imported, for want of a package for language models for example, is as good as none.
"""

PACKAGES: Mapping[str, Contents] = {
    "mamba_ssm": {
        "Mamba": Mamba,
        "Mamba2": _MAMBA_2,
        "Mamba3": _MAMBA_3,
        "MambaLMHeadModel": _LANGUAGE_MODEL,
        "selective_scan_fn": selective_scan_fn,
        "mamba_inner_fn": mamba_inner_fn,
    },
    "mamba_ssm.models": {},
    "mamba_ssm.modules": {},
    "mamba_ssm.modules.mamba_simple": {"Mamba": Mamba},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": _SCAN,
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.layer_norm": _NORMS,
    "mamba_ssm.ops.triton.layernorm": _NORMS,
    "mamba_ssm.ops.triton.selective_state_update": {"selective_state_update": selective_state_update},
    "mamba_ssm.utils": {},
    "selective_scan": {
        "selective_scan_fn": selective_scan_without_gate,
        "selective_scan_ref": selective_scan_without_gate,
    },
    "selective_scan_vmamba": {},
    "selective_scan_vmamba.selective_scan_cuda_core": EXTENSIONS["selective_scan_cuda_core"],
    "selective_scan_vmamba_pt202": {},
    "selective_scan_vmamba_pt202.selective_scan_cuda_core": EXTENSIONS["selective_scan_cuda_core"],
    "triton": TRITON,
    "fvcore": {},
    "fvcore.nn": _flop_counters(
        "FlopCountAnalysis", "flop_count", "flop_count_str", "flop_count_table", "parameter_count"
    ),
}
"""Modules that are stood in for only if they are not installed: what computes is not exchanged because it fails."""

_CONTENTS = {**EXTENSIONS, **SHADOWED, **UNUSED, **PACKAGES}
_modules: dict[str, ModuleType] = {}


def known_as(name: str) -> str | None:
    """The name under which a module stands in the tables; None if it does not.

    The modules of ``mamba_ssm`` are known inside other packages as well, for forks are vendored there; all of Triton's
    are, below ``triton``.
    """
    if name.startswith("triton."):
        return "triton.language"
    inside, dot, rest = name.rpartition("mamba_ssm.")
    known = dot + rest if inside.endswith(".") else name
    return known if known in _CONTENTS else None


def stand_in(name: str) -> ModuleType:
    """The module that stands in for one that ``known_as`` knows: the same object each time."""
    if name not in _modules:
        known = known_as(name)
        module = (Language if known == "triton.language" else ModuleType)(name)
        vars(module).update(_CONTENTS.get(known or "", {}))
        _modules[name] = module
    return _modules[name]


def is_stand_in(name: str, module: object) -> bool:
    """Whether the module of that name is the one which ``stand_in`` gives."""
    return name in _modules and _modules[name] is module


def is_package(name: str) -> bool:
    """Whether modules may lie below."""
    known = known_as(name)
    return known == "triton.language" or any(other.startswith(f"{known}.") for other in (*_CONTENTS, "triton.language"))
