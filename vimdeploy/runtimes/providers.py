"""What ONNX Runtime runs a model on: its execution providers, built in or plugins, which have packages of their own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vimdeploy.errors import ConfigError, require
from vimdeploy.gpu import Device
from vimdeploy.runtimes.cuda_provider import CPU_PROVIDER, CUDA_PROVIDER
from vimdeploy.runtimes.cuda_streams import LEGACY_STREAM, stream_handle
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    from onnxruntime import OrtEpDevice

_PACKAGES = "onnxruntime_ep_"
"""How the modules of such packages begin: ONNX Runtime's guidance for packaging, which names their functions too."""
_NVIDIA = 0x10DE
"""The PCI vendor."""


Provider = str | tuple[str, Mapping[str, Any]]
"""ONNX Runtime's name of an execution provider; or the name, and options that ONNX Runtime has for it."""

_CPU = [CPU_PROVIDER]
_CUDA = [CUDA_PROVIDER, *_CPU]  # the CPU computes shapes
_OF_DEVICE = {"auto": [_CUDA, _CPU], "cpu": [_CPU], "cuda": [_CUDA]}
"""The providers of each; ``auto`` takes the first that this machine and the other options allow."""
_INSTEAD = {"device_id": "device='cuda:1'", "enable_cuda_graph": "cuda_graphs=True"}
"""What stands for options of the CUDA provider, which vimdeploy has to know of."""
_STREAM = "user_compute_stream"
"""The CUDA provider's option for the stream that it is to work in."""


class Providers(NamedTuple):
    """What a session is to run on."""

    names: Sequence[str]
    """First choice first."""
    device: Device
    """That of the first provider that is not for CPUs; else the CPU."""
    plugins: Mapping[str, OrtEpDevice]
    """The devices of those that are plugins."""
    options: Mapping[str, Mapping[str, str]]
    """ONNX Runtime's, of those that have any."""

    @property
    def on_cuda(self) -> bool:
        """Whether the CUDA provider is among them."""
        return CUDA_PROVIDER in self.names

    @property
    def stream(self) -> int | None:
        """The handle of the CUDA stream to work in, if somebody gave one."""
        handle = self.options.get(CUDA_PROVIDER, {}).get(_STREAM)
        return None if handle is None else int(handle)


def provider_choices(
    providers: Sequence[Provider] | None, wanted: Device, cuda_graphs: bool = False
) -> list[Providers]:
    """What a session may run on, the best first.

    Args:
        providers: that somebody wants; None follows the device.
        wanted: the device; of that of a plugin the number.
        cuda_graphs: whether the CUDA provider is to capture graphs.

    Raises:
        ConfigError: if ONNX Runtime has not what is wanted; for options that it is not given so.
        InputError: if the stream of an option is none.
        MissingPackageError: if there is no ONNX Runtime.
    """
    given = dict(map(_named, [providers] if isinstance(providers, str) else providers or ()))
    choices = [list(given)] if given else _OF_DEVICE["cuda" if cuda_graphs else wanted.kind]
    if cuda_graphs and (wanted.kind == "cpu" or CUDA_PROVIDER not in choices[0]):
        raise ConfigError(f"cuda_graphs are of {CUDA_PROVIDER}, found {', '.join(given) or f'device {wanted}'}.")
    find_providers(given)
    return [_chosen(names, given, wanted, cuda_graphs) for names in choices]


def _named(provider: Any) -> tuple[str, Mapping[str, Any]]:
    match provider:
        case str():
            return provider, {}
        case [str() as name, Mapping() as options]:
            return name, options
    raise ConfigError(
        f"Wanted the name of an execution provider, or a pair of the name and a dict of options; found {provider!r}."
    )


def _chosen(
    names: Sequence[str], given: Mapping[str, Mapping[str, Any]], wanted: Device, cuda_graphs: bool
) -> Providers:
    options = {name: _options(name, given.get(name, {}), wanted, cuda_graphs) for name in names}
    found = {name: plugin_device(name, wanted.index) for name in names}
    plugins = {name: device for name, device in found.items() if device is not None}
    kinds = {CUDA_PROVIDER: "cuda"} | {name: kind_of(device) for name, device in plugins.items()}
    kind = next((kinds[name] for name in names if kinds.get(name, "cpu") != "cpu"), "cpu")
    return Providers(names, Device(kind, 0 if kind == "cpu" else wanted.index), plugins, options)


def _options(provider: str, given: Mapping[str, Any], wanted: Device, cuda_graphs: bool) -> dict[str, str]:
    """ONNX Runtime's options for a provider: ours, and those that were given, which go before them."""
    options = dict(given)
    if provider == CUDA_PROVIDER:
        for option, instead in _INSTEAD.items():
            if option in options:
                raise ConfigError(f"Wanted {instead} in place of {provider}'s option {option}.")
        if _STREAM in options:
            stream = options[_STREAM]
            handle = int(stream) if isinstance(stream, str) and stream.isdecimal() else stream_handle(stream)
            options[_STREAM] = handle or LEGACY_STREAM  # 0 would stand for none
        # TF32 would round the factors of float32 products to 10 bits.
        options = {"use_tf32": 0, "device_id": wanted.index} | options
        if cuda_graphs:
            options["enable_cuda_graph"] = 1
    return {name: str(value) for name, value in options.items()}


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
            if not hasattr(ort, "register_execution_provider_library"):  # since 1.22
                raise ConfigError(
                    f"ONNX Runtime {ort.__version__} takes no plugins, such as {name}; install a newer one."
                )
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
