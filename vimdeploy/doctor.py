"""What this machine can run, what is missing, and the command that brings it."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from vimdeploy.runtimes.onnxruntime import library_info, library_path

READY, MISSING, PROBLEM = "ready", "missing", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    """``ready``; ``missing``, which only some tasks need; ``problem``, which wants mending."""
    found: str
    cure: str = ""
    """The command that brings what is missing or mends the problem."""


def examine() -> list[Finding]:
    """Look at everything that vimdeploy can use; imports nothing heavy and changes nothing."""
    return [
        Finding("Python", READY, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_onnxruntime(),
        _operator_library(),
        _package("torch", "export", "export and comparison with PyTorch"),
        _package("onnxscript", "export", "export"),
        _package("safetensors", "export", "checkpoints in .safetensors"),
        _package("huggingface_hub", "hub", "checkpoints by hf://owner/repo"),
        _gpu(),
        _cuda_compiler(),
        _package("tensorrt", "tensorrt", "engines, in a later version of vimdeploy"),
        _package("tensorrt-rtx", "rtx", "engines for RTX, in a later version of vimdeploy"),
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _package(package: str, extra: str, purpose: str) -> Finding:
    found = _version(package)
    if found:
        return Finding(package, READY, found)
    return Finding(package, MISSING, f"not installed; for {purpose}", f"pip install 'vimdeploy[{extra}]'")


def _onnxruntime() -> list[Finding]:
    cpu, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    if cpu and gpu:
        return [
            Finding(
                "onnxruntime",
                PROBLEM,
                f"onnxruntime {cpu} and onnxruntime-gpu {gpu} lie over each other in the same folder",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
            )
        ]
    try:
        import onnxruntime as ort

        providers = ", ".join(ort.get_available_providers())
    except ImportError as error:
        return [
            Finding("onnxruntime", PROBLEM, f"cannot be imported: {error}", "pip install --force-reinstall onnxruntime")
        ]
    return [
        Finding("onnxruntime", READY, f"{'onnxruntime-gpu' if gpu else 'onnxruntime'} {gpu or cpu or ort.__version__}"),
        Finding("providers", READY, providers),
    ]


def _operator_library() -> Finding:
    cure = "pip install --force-reinstall --no-binary vimdeploy vimdeploy, where a C++ compiler and cmake are"
    try:
        info = library_info()
    except (OSError, AttributeError, ValueError) as error:
        return Finding("operator library", PROBLEM, f"{library_path()} cannot be loaded: {error}", cure)
    if info is None:
        return Finding("operator library", MISSING, "not installed: files run by their function bodies, slower", cure)
    others = ", ".join(name for name in info["instruction_sets"] if name != info["instruction_set"])
    return Finding(
        "operator library",
        READY,
        f"{library_path()}; instruction set {info['instruction_set']} (also here: {others or 'none'}); "
        f"types {', '.join(info['types'])}",
    )


def _gpu() -> Finding:
    """Ask the driver itself: it is there wherever a GPU can be used."""
    name = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return Finding("NVIDIA driver", MISSING, f"no {name}: this machine runs files on its CPU")
    devices = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(devices))
    if status or not devices.value:
        return Finding("NVIDIA driver", MISSING, f"a driver, but no GPU that it can use (status {status})")
    label = ctypes.create_string_buffer(128)
    driver.cuDeviceGetName(label, len(label), 0)
    return Finding("NVIDIA driver", READY, f"{devices.value} x {label.value.decode()}")


def _cuda_compiler() -> Finding:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return Finding("CUDA compiler", MISSING, "no nvcc on the PATH; only for building CUDA kernels")
    out = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = next((line.split("release ")[1].split(",")[0] for line in out.splitlines() if "release " in line), "?")
    return Finding("CUDA compiler", READY, f"{nvcc}, CUDA {release}")
