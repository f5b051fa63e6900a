"""The machine: what a reader of measurements has to know about it, and how much of it this process may use."""

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
        "cores": usable_cores(),
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


def usable_cores() -> int:
    """How many this process may use: of the machine's those that it is bound to, in a container its share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _of_control_group("cpu.max").partition(" ")
    return max(1, min(cores, -(-int(quota) // int(period)))) if quota.isdigit() and period.isdigit() else cores


def memory_left() -> int | None:
    """Bytes that this process may still take, in a container those of its share; None if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    left = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    most, taken = _of_control_group("memory.max"), _of_control_group("memory.current")
    if left is not None and most.isdigit() and taken.isdigit():
        kinds = (line.split() for line in _of_control_group("memory.stat").splitlines())
        files = sum(
            int(size) for kind, size in kinds if kind in ("active_file", "inactive_file")
        )  # given up for others
        left = min(left, max(int(most) - int(taken) + files, 0))
    return left


def _of_control_group(name: str) -> str:
    """What the control group of a container says; empty outside of one."""
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""


def status_bytes(field: str) -> int | None:
    """A number of bytes that Linux tells of this process, ``VmRSS`` for example; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), None)


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
