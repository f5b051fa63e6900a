"""Step build: vimdeploy with its libraries, the C++ tests and the kit's own library, for this device alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import torch

from gpu_kit.records import Log
from gpu_kit.steps import REPOSITORY, Settings

FILES = ("libvimdeploy_onnxruntime.so", "vimdeploy_device_tests", "libvimdeploy_gpu_bench.so")
OPTIONAL_FILES = {
    "libvimdeploy_tensorrt.so": "TensorRT's headers were not found; pass --tensorrt-root",
    "check_tensorrt_enqueue": "TensorRT's headers were not found; pass --tensorrt-root",
}


def build(settings: Settings, log: Log) -> None:
    """As a user installs it, by pip, and the C++ tests and benchmarks; fetches nothing if all of it is given."""
    for pattern in ("*.onnx", "*.engine*"):  # of an earlier build
        for old in settings.work.glob(pattern):
            old.unlink()
    major, minor = torch.cuda.get_device_capability()
    subprocess.run(pip_command(settings, f"{major}{minor}"), check=True)
    for file in FILES:
        if found := settings.built(file):
            log.passed(file, bytes=float(found.stat().st_size))
        else:
            log.failed(file, f"the build made no {file}; is nvcc on the PATH?")
    for file, reason in OPTIONAL_FILES.items():
        if found := settings.built(file):
            log.passed(file, bytes=float(found.stat().st_size))
        else:
            log.skipped(file, reason)


def pip_command(settings: Settings, architecture: str) -> list[str]:
    """Installs the repository into ``settings.site``, built in ``settings.build``."""
    defines = {
        "VIMDEPLOY_BUILD_TESTS": "ON",
        "VIMDEPLOY_BUILD_BENCHMARKS": "ON",
        "CMAKE_CUDA_ARCHITECTURES": f"{architecture}-real",
        "VIMDEPLOY_DEPS_DIR": settings.deps,
        "TENSORRT_ROOT": settings.tensorrt_root,
    }
    options = [f"cmake.define.{name}={value}" for name, value in defines.items() if value is not None]
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--upgrade", "--target", str(settings.site)]
    if importlib.util.find_spec("scikit_build_core"):
        command.append("--no-build-isolation")  # no network is needed
    for option in (f"build-dir={settings.build}", *options):
        command += ["--config-settings", option]
    return [*command, "--verbose", str(REPOSITORY)]
