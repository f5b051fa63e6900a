"""As much of Triton as files with kernels need to be imported."""

import importlib.util
import subprocess
import sys

import pytest

import vimdeploy
from vimdeploy.errors import ConfigError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is installed")

KERNELS = """
import triton
import triton.language as tl
from triton.language.extra import libdevice

@triton.autotune(configs=[triton.Config({"BLOCK": 64}, num_warps=4)], key=["n"])
@triton.heuristics({"HAS_BIAS": lambda args: args["bias"] is not None})
@triton.jit
def scale(x, n, BLOCK: tl.constexpr, HAS_BIAS: tl.constexpr = tl.constexpr(True)):
    pass

@triton.jit(do_not_specialize=["n"])
def other(x, n): pass

@tl.core.extern
def helper(x): return x

DTYPE = tl.float32
exp = tl.math.exp
"""


def test_files_with_kernels_are_imported_and_running_one_is_refused():
    scope = {}
    with vimdeploy.compat.mamba():
        exec(KERNELS, scope)
    for name in ("scale", "other"):
        with pytest.raises(ConfigError) as caught:
            scope[name][(1,)](None, 3)
        assert str(caught.value) == (
            f"The model uses the Triton kernel {name}: Triton is not installed here, "
            "and vimdeploy stands in for it only while a model is imported."
        )
    assert scope["helper"](3) == 3
    assert (scope["triton"].cdiv(7, 2), scope["triton"].next_power_of_2(5)) == (4, 8)


@pytest.mark.slow
def test_pytorch_does_not_take_it_for_triton():
    code = f"""
import torch, vimdeploy
with vimdeploy.compat.mamba():
    exec({KERNELS!r}, {{}})
    import torch._inductor.runtime.hints
    torch.onnx.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), verbose=False)
    assert not torch.utils._triton.has_triton_package()
    from torch._inductor.runtime import triton_compat
    assert triton_compat.HAS_TRITON is False
"""
    subprocess.run([sys.executable, "-c", code], check=True)
