"""Execution providers that ONNX Runtime takes as plugins: libraries of their own, in packages of their own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vimdeploy.errors import ConfigError, require
from vimdeploy.runtimes.cuda_provider import CPU_PROVIDER, CUDA_PROVIDER
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from onnxruntime import OrtEpDevice

_PACKAGES = "onnxruntime_ep_"
"""How the modules of such packages begin: ONNX Runtime's guidance for packaging, which names their functions too."""
_NVIDIA = 0x10DE
"""The PCI vendor."""


def find_providers(wanted: Iterable[str]) -> None:
    """See that ONNX Runtime has some providers; plugins that bring them are registered if they are installed.

    Args:
        wanted: ONNX Runtime's names of execution providers.

    Raises:
        ConfigError: if it has one of them not, or its plugin cannot be loaded or finds no device.
        MissingPackageError: if there is no ONNX Runtime.
    """
    for provider in wanted:
        if provider not in _available():
            _register(provider)


def plugin_device(provider: str, number: int = 0) -> OrtEpDevice | None:
    """A device of a plugin; None for a provider that is built in.

    Args:
        provider: one that ONNX Runtime has.
        number: which of its devices, in ONNX Runtime's order.

    Raises:
        ConfigError: if it has fewer.
    """
    devices = _plugins().get(provider)
    if devices is None:
        return None
    if number >= len(devices):
        raise ConfigError(f"{provider} has devices 0 to {len(devices) - 1} here, wanted was {number}.")
    return devices[number]


def kind_of(device: OrtEpDevice) -> str:
    """What a device is: ``cpu``, ``gpu``, ``npu``; ``cuda`` if it is a GPU of NVIDIA's."""
    kind: str = device.device.type.name.lower()
    return "cuda" if kind == "gpu" and device.device.vendor_id == _NVIDIA else kind


def _available() -> list[str]:
    return list(dict.fromkeys([*require("onnxruntime", "cpu").get_available_providers(), *_plugins()]))


def _plugins() -> dict[str, list[OrtEpDevice]]:
    """The devices of each plugin that was registered and found some.

    The CUDA provider is none, whether it is part of ONNX Runtime or a plugin that came with it.
    """
    ort = require("onnxruntime", "cpu")
    found: dict[str, list[OrtEpDevice]] = {}
    for device in ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else ():  # since 1.22
        if device.ep_name not in (CPU_PROVIDER, CUDA_PROVIDER):
            found.setdefault(device.ep_name, []).append(device)
    return found


def _register(provider: str) -> None:
    """Register the installed plugin that brings a provider."""
    import onnxruntime as ort

    broken = []
    for name in sorted(module.name for module in pkgutil.iter_modules() if module.name.startswith(_PACKAGES)):
        try:
            package = importlib.import_module(name)
            is_wanted = provider in package.get_ep_names()
        except Exception as error:  # it may be any: code of others
            broken.append(f"the plugin {name} cannot be imported: {reason_of(error)}")
            continue
        if is_wanted:
            try:
                ort.register_execution_provider_library(provider, package.get_library_path())
            except Exception as error:  # ONNX Runtime's exceptions have no common base
                raise ConfigError(f"ONNX Runtime cannot load the plugin {name}: {reason_of(error)}") from error
            if provider not in _plugins():
                ort.unregister_execution_provider_library(provider)
                raise ConfigError(f"The plugin {name} finds no device on this machine that {provider} can use.")
            return
    cure = "; ".join(broken) or (
        "if it is a plugin, pip install onnxruntime-ep-NAME brings it, or register its library first with "
        "onnxruntime.register_execution_provider_library"
    )
    raise ConfigError(f"This ONNX Runtime has no {provider}; it has: {', '.join(_available())}; {cure}.")
