"""What a reader of measurements has to know about the machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import gpus
from vimdeploy.libraries import library_info

_PACKAGES = ("vimdeploy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "torch", "numpy")


def describe_machine() -> dict[str, Any]:
    """The processor, its cores, the GPUs, the system, and the versions of the packages that run models."""
    versions = {name: found for name in _PACKAGES if (found := installed_version(name)) is not None}
    return {
        "processor": _processor(),
        "cores": _cores(),
        "gpus": _gpu_names(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "instruction_set": _instruction_set(),
    }


def installed_version(package: str) -> str | None:
    """The version of a package as pip installed it; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, if the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown processor"


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_names() -> list[str]:
    try:
        return [gpu.name for gpu in gpus()]
    except ConfigError:
        return []


def _instruction_set() -> str:
    """What the operator library computes with on this processor; empty if it is not installed."""
    try:
        return str((library_info() or {}).get("instruction_set", ""))
    except ConfigError:
        return ""
