"""The driver's functions as ctypes calls them, held against cuda.h by a C compiler: ctypes itself checks nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.cuda_declarations import CALLS
from helpers.stand_in_tensorrt import Cuda

import vimdeploy
from vimdeploy import gpu
from vimdeploy.runtimes import cuda_graph, cuda_streams, engine_lane, gpu_arrays

NUMBERS = {
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": gpu._COMPUTE_CAPABILITY_MAJOR,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": gpu._COMPUTE_CAPABILITY_MINOR,
    "CU_EVENT_DISABLE_TIMING": cuda_streams._EVENT_WITHOUT_TIME,
    "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL": gpu_arrays._POINTER_DEVICE,
    "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": cuda_graph._CAPTURE_MODE_THREAD_LOCAL,
    "CU_STREAM_NON_BLOCKING": engine_lane._STREAM_NON_BLOCKING,
    "(size_t)CU_STREAM_LEGACY": cuda_streams.LEGACY_STREAM,
    "sizeof(CUdeviceptr)": 8,
    "sizeof(CUdevice)": 4,
}


def test_every_call_is_in_the_table():
    sources = "".join(path.read_text() for path in Path(vimdeploy.__file__).parent.rglob("*.py"))
    assert set(re.findall(r"\.(cu[A-Z]\w+)\(", sources)) == set(CALLS)


def test_the_stand_in_has_no_calls_of_its_own():
    assert {name for name in vars(Cuda) if name.startswith("cu")} <= set(CALLS)


def test_cuda_declares_them_so(tmp_path):
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("CUDA's compiler nvcc, which knows where cuda.h is, is not installed")
    lines = ["#include <stddef.h>", "#include <cuda.h>"]
    for name, arguments in CALLS.items():
        lines.append(f"CUresult (*of_{name})({arguments}) = {name};")
    lines += [f'_Static_assert({name} == {value}, "{name}");' for name, value in NUMBERS.items()]
    source = tmp_path / "calls.c"
    source.write_text("\n".join(lines))
    command = [nvcc, "-Xcompiler", "-std=c11,-Werror", "-c", source, "-o", tmp_path / "calls.o"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
