"""What the machine is: device, driver, clocks as found, versions, commit. Nothing here changes a setting."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "vimdeploy")
_QUERY = ("name", "driver_version", "memory.total", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")


def slug(device: str) -> str:
    """A device's name as a part of a file's name: ``NVIDIA H100 80GB HBM3`` -> ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def missing_gpu() -> str | None:
    """Why the kit cannot run here, in a sentence; None if it can."""
    wanted = "Wanted an NVIDIA GPU that PyTorch can use, found none"
    try:
        import torch
    except ImportError as error:
        return f"{wanted}: PyTorch cannot be imported ({error}); install it with CUDA."
    if torch.version.cuda is None:
        return (
            f"{wanted}: PyTorch {torch.__version__} was built without CUDA; run this where a GPU and a CUDA build are."
        )
    if not torch.cuda.is_available():
        return f"{wanted}: PyTorch {torch.__version__} sees no device; is the driver installed and the GPU visible?"
    return None


def describe_machine(repository: Path, commit: str | None) -> dict[str, str]:
    """What a reader of the results has to know.

    Args:
        repository: a git checkout, or a copy of one.
        commit: its commit, for a copy that does not know.
    """
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "L2 bytes": str(properties.L2_cache_size),
        **_nvidia_smi(),
        "CUDA of PyTorch": str(torch.version.cuda),
        "nvcc": _last_line(["nvcc", "--version"]),
        "commit": commit
        or _last_line(["git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=40"]),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        **{package: version for package in PACKAGES if (version := _version(package))},
    }


def clocks() -> dict[str, str]:
    """The clocks at this moment, in MHz."""
    return {name: value for name, value in _nvidia_smi().items() if name in ("clocks.sm", "clocks.mem")}


def _nvidia_smi() -> dict[str, str]:
    line = _last_line(["nvidia-smi", "--id=0", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"])
    values = [value.strip() for value in line.split(",")]
    return dict(zip(_QUERY, values, strict=True)) if len(values) == len(_QUERY) else {"nvidia-smi": line}


def _last_line(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return (result.stdout.strip().splitlines() or ["unknown"])[-1]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
