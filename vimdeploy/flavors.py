"""TensorRT's two flavours, ``tensorrt`` and ``rtx``: their modules, what they log, and our plugin in their registry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, require
from vimdeploy.libraries import lack_of_kernels, library_info, library_path
from vimdeploy.ops.contract import DOMAIN, OPERATORS
from vimdeploy.text import shortened

LOG = logging.getLogger("vimdeploy.tensorrt")
"""Where all that TensorRT says is passed on to; nobody hears it unless a program listens."""
LOG.addHandler(logging.NullHandler())

_MOST_ERRORS = 20
"""The errors that a logger keeps: the first is the cause, and later ones follow from it."""

_MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}


def tensorrt_module(flavor: str) -> ModuleType:
    """The Python package of a flavour, which is also the extra's name.

    Raises:
        MissingPackageError: if it is not installed.
    """
    return require(_MODULES[flavor], flavor)


def version_of(text: str) -> tuple[int, ...]:
    """Major, minor and patch of a version of TensorRT; packages differ in whether a build number follows."""
    return tuple(int(part) for part in text.split(".")[:3])


def collecting_logger(trt: ModuleType) -> Any:
    """A logger for TensorRT that prints nothing, keeps the errors, and passes all on to ``LOG``.

    Returns:
        An ``ILogger`` with ``errors``, the first of them as lines, and ``reason()``, all of those in one line; it then
        begins anew, so that what fails later is not told the reason of what failed before.
    """
    severe = {trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR}
    levels = {trt.ILogger.WARNING: logging.WARNING, trt.ILogger.INFO: logging.INFO}
    levels |= dict.fromkeys(severe, logging.ERROR)

    class Logger(trt.ILogger):  # type: ignore[name-defined,misc]  # known when the flavour is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in severe and len(self.errors) < _MOST_ERRORS:
                self.errors.append(shortened(message))
            LOG.log(levels.get(severity, logging.DEBUG), "%s", message)

        def reason(self) -> str:
            said = "; ".join(dict.fromkeys(self.errors))
            self.errors.clear()
            return shortened(said) or "it gives no reason"

    return Logger()


def deserialized(
    trt: ModuleType, plan: bytes, logger: Any, allow_code: bool = False, prepare: Callable[[Any], None] | None = None
) -> tuple[Any, Any]:
    """TensorRT's runtime, and the engine that it makes of a plan; the engine must not outlive the runtime.

    Args:
        trt: the flavour's module.
        plan: the engine's file.
        logger: of ``collecting_logger``.
        allow_code: whether code in the plan may run in this process.
        prepare: is called with the runtime before it reads the plan, to give it the plugins.

    Raises:
        ModelFileError: if TensorRT refuses the plan.
        ExecutionError: if it cannot start.
    """
    runtime = trt.Runtime(logger)
    if logger.errors:  # TensorRT gives an object that ends the process when it is used
        raise ExecutionError(f"TensorRT cannot start: {logger.reason()}")
    if allow_code:
        runtime.engine_host_code_allowed = True
    if prepare is not None:
        prepare(runtime)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ModelFileError(f"TensorRT refuses the engine: {logger.reason()}; build it again: vimdeploy build")
    return runtime, engine


def load_plugins(trt: ModuleType, registry: Any, version: str, compute_capability: str) -> None:
    """Put our plugins into a registry, if they are not there already.

    Args:
        trt: the flavour's module.
        registry: the flavour's own, or a runtime's, whose parent is not asked.
        version: of the plugins.
        compute_capability: of the GPU that they are to run on.

    Raises:
        ConfigError: if the library is not in this installation, cannot be loaded, has another version, or no kernels
            for the GPU.
    """
    info = library_info("tensorrt") or {}
    lack = lack_of_kernels("TensorRT plugin library", info["cuda_architectures"], compute_capability) if info else ""
    if lack:
        raise ConfigError(f"{lack}.")
    if _registered(registry, version):
        return
    library = library_path("tensorrt")
    if library is None:
        raise ConfigError(
            "The TensorRT plugin library, libvimdeploy_tensorrt.so, is not in this installation of vimdeploy; install "
            "vimdeploy again where a C++ compiler, cmake, CUDA's compiler and TensorRT's headers are."
        )
    if registry.load_library(str(library)) is None or not _registered(registry, version):
        raise ConfigError(
            f"The plugin library {library} does not bring version {version} of our plugins to this TensorRT "
            f"{trt.__version__}; install vimdeploy again where TensorRT's headers of that version are."
        )


def _registered(registry: Any, version: str) -> bool:
    asks_parent = registry.parent_search_enabled
    registry.parent_search_enabled = False
    try:
        return all(registry.get_creator(op.name, version, DOMAIN) is not None for op in OPERATORS)
    finally:
        registry.parent_search_enabled = asks_parent
