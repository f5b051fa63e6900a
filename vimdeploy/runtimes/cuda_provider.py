"""ONNX Runtime's CUDA provider: what keeps it from working here, and what to install."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass

from vimdeploy.errors import ConfigError, require
from vimdeploy.gpu import FIRST_GPU, Device, gpu_of

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'"


@dataclass(frozen=True)
class Obstacle:
    """Why there is no CUDA."""

    found: str
    command: str
    """The command that brings it; empty if there is none."""


def cuda_obstacle(device: Device = FIRST_GPU) -> Obstacle | None:
    """What keeps ONNX Runtime from CUDA, as far as can be told without a session; None if nothing does.

    Raises:
        MissingPackageError: if there is a GPU and no ONNX Runtime.
    """
    try:
        gpu_of(device)
    except ConfigError as error:
        return Obstacle(str(error), "")
    providers = require("onnxruntime", "gpu").get_available_providers()
    if CUDA_PROVIDER not in providers:
        return Obstacle(f"an ONNX Runtime without CUDA (it has: {', '.join(providers)})", INSTALL)
    return None


def check_cuda(device: Device) -> None:
    """Refuse a GPU if there is an obstacle.

    Raises:
        ConfigError: names the obstacle, and what to do.
    """
    obstacle = cuda_obstacle(device)
    if obstacle:
        cure = f"install it with: {obstacle.command}" if obstacle.command else "use device cpu"
        raise ConfigError(f"Wanted device {device}, found {obstacle.found}; {cure}.")


def load_cuda_libraries() -> list[str]:
    """Load what the provider needs from pip's packages or the system, before a session is made.

    Returns:
        The libraries that were not found. ONNX Runtime lists more than it needs: a session may work without them.
    """
    import onnxruntime as ort

    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it misses
        ort.preload_dlls()
    return re.findall(r"Failed to load (\S+?):", said.getvalue())
