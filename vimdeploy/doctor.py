"""What this machine can run, what is missing, and the command that installs it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import gpus
from vimdeploy.installation import install_command, rebuild_command
from vimdeploy.libraries import architectures_cover, library_info, library_path
from vimdeploy.machine import installed_version
from vimdeploy.runtimes.cuda_provider import INSTALL, cuda_obstacle, load_cuda_libraries

READY, MISSING, PROBLEM = "ready", "missing", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    """``ready``; ``missing``, which only some tasks need; ``problem``: it is installed and does not work."""
    found: str
    cure: str = ""
    """The command that installs what is missing or mends the problem."""


def examine() -> list[Finding]:
    """Look at everything that vimdeploy can use; imports nothing heavy and changes nothing."""
    return [
        Finding("Python", READY, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _vimdeploy(),
        *_onnxruntime(),
        *_operator_library(),
        _package("torch", "export", "export and comparison with PyTorch"),
        _package("onnxscript", "export", "export"),
        _package("safetensors", "export", "checkpoints in .safetensors"),
        _package("huggingface_hub", "hub", "checkpoints by hf://owner/repo"),
        _gpu(),
        _cuda_compiler(),
        _package("tensorrt", "tensorrt", "engines"),
        _tensorrt_plugin(),
        _package("polygraphy", "tensorrt", "building engines"),
        _package("pycuda", "tensorrt", "running engines"),
        _package("tensorrt-rtx", "rtx", "engines for RTX, which need no plugin"),
        _package("openvino", "openvino", "ONNX files with --runtime openvino"),
    ]


def _vimdeploy() -> Finding:
    """Which package is running: Python started in the source folder imports that one, not the installed one."""
    folder, library = Path(sys.modules["vimdeploy"].__path__[0]), library_path()
    found = f"{installed_version('vimdeploy') or 'not installed'}, imported from {folder}"
    if library is not None and folder not in library.parents:
        found += (
            f", a source folder; its compiled operators are those of {library.parent.parent}, so install "
            "it again after changes to them: pip install ."
        )
    return Finding("vimdeploy", READY, found)


def _package(package: str, extra: str, purpose: str) -> Finding:
    found = installed_version(package)
    if found:
        return Finding(package, READY, found)
    return Finding(package, MISSING, f"not installed; for {purpose}", install_command(extra))


def _onnxruntime() -> list[Finding]:
    cpu, gpu = installed_version("onnxruntime"), installed_version("onnxruntime-gpu")
    if cpu and gpu:
        return [
            Finding(
                "onnxruntime",
                PROBLEM,
                f"onnxruntime {cpu} and onnxruntime-gpu {gpu} install into the same folder and break each other: "
                "keep only one",
                INSTALL,
            )
        ]
    try:
        import onnxruntime as ort

        providers = ", ".join(ort.get_available_providers())
    except ImportError as error:
        if not cpu and not gpu:
            return [_package("onnxruntime", "cpu", "running .onnx files; on a GPU, install gpu instead of cpu")]
        cure = f"pip install --force-reinstall {'onnxruntime' if cpu else 'onnxruntime-gpu'}"
        return [Finding("onnxruntime", PROBLEM, f"cannot be imported: {error}", cure)]
    return [
        Finding("onnxruntime", READY, f"{'onnxruntime-gpu' if gpu else 'onnxruntime'} {gpu or cpu or ort.__version__}"),
        Finding("providers", READY, providers),
        _cuda_provider(),
    ]


def _cuda_provider() -> Finding:
    obstacle = cuda_obstacle()
    if obstacle:
        return Finding("CUDA provider", MISSING, obstacle.found, obstacle.command)
    missing = load_cuda_libraries()
    if missing:
        return Finding("CUDA provider", PROBLEM, f"libraries not found: {', '.join(missing)}", INSTALL)
    return Finding("CUDA provider", READY, "for ONNX files with --device cuda")


def _operator_library() -> list[Finding]:
    cure = f"{rebuild_command()}, where a C++ compiler is"
    try:
        info = library_info()
    except ConfigError as error:
        return [Finding("operator library", PROBLEM, str(error), cure)]
    if info is None:
        return [Finding("operator library", MISSING, "not installed: files run by their function bodies, slower", cure)]
    others = ", ".join(name for name in info["instruction_sets"] if name != info["instruction_set"])
    found = (
        f"{library_path()}; instruction set {info['instruction_set']} (also here: {others or 'none'}); "
        f"types {', '.join(info['types'])}"
    )
    return [
        Finding("operator library", READY, found),
        _cuda_kernels(info["cuda_architectures"], info["cuda_version"]),
    ]


def _cuda_kernels(architectures: list[str], cuda_version: str) -> Finding:
    cure = f"{rebuild_command()}, where CUDA's compiler nvcc is"
    if not architectures:
        return Finding("CUDA kernels", MISSING, "the operator library was built without them", cure)
    found = f"for {', '.join(architectures)}, by CUDA {cuda_version}"
    try:
        lacking = [gpu for gpu in gpus() if not architectures_cover(architectures, gpu.compute_capability)]
    except ConfigError:
        lacking = []
    if lacking:
        name, capability = lacking[0].name, lacking[0].compute_capability
        return Finding("CUDA kernels", PROBLEM, f"{found}; none for {name}, compute capability {capability}", cure)
    return Finding("CUDA kernels", READY, found)


def _tensorrt_plugin() -> Finding:
    path = library_path("tensorrt")
    if path is None:
        cure = f"{rebuild_command('-C cmake.define.VIMDEPLOY_TENSORRT=ON')}, where CUDA's compiler nvcc is"
        return Finding("TensorRT plugin", MISSING, "not in this installation", cure)
    return Finding("TensorRT plugin", READY, str(path))


def _gpu() -> Finding:
    try:
        found = [f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in gpus()]
    except ConfigError as error:
        return Finding("NVIDIA GPU", MISSING, f"{error}: this machine runs files on its CPU")
    return Finding("NVIDIA GPU", READY, ", ".join(found))


def _cuda_compiler() -> Finding:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return Finding("CUDA compiler", MISSING, "no nvcc on the PATH; only for building CUDA kernels")
    out = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = next((line.split("release ")[1].split(",")[0] for line in out.splitlines() if "release " in line), "?")
    return Finding("CUDA compiler", READY, f"{nvcc}, CUDA {release}")
