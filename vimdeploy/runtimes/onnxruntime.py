"""ONNX Runtime as a runtime: our operators from the library where it is there, else from the file's function bodies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy import libraries
from vimdeploy.artifact import INT8, ModelInfo, read_onnx
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, first_line
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session, Stages
from vimdeploy.runtimes.cuda_provider import CUDA_PROVIDER, INSTALL, check_cuda, load_cuda_libraries
from vimdeploy.runtimes.float32_products import with_float32_products
from vimdeploy.runtimes.free_memory import give_back_free_memory
from vimdeploy.runtimes.operator_library import choose_library

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

_CPU = ["CPUExecutionProvider"]
_CUDA = [CUDA_PROVIDER, *_CPU]  # the CPU computes shapes
DEVICES = {"auto": [_CUDA, _CPU], "cpu": [_CPU], "cuda": [_CUDA]}
"""The providers of each; ``auto`` takes the first that this machine and the other options allow."""

_PROVIDER_OPTIONS = {CUDA_PROVIDER: {"use_tf32": "0"}}  # TF32 would round the factors of float32 products to 10 bits


class OnnxRuntimeSession(Session):
    """An ONNX file of ours in ONNX Runtime."""

    def __init__(
        self,
        model: Path | bytes,
        info: ModelInfo,
        device: str = "auto",
        threads: int | None = None,
        operators: str = "auto",
        providers: Sequence[str] | None = None,
    ) -> None:
        """Open a session; ``session_from_onnx`` is the way in for files.

        Args:
            model: the file, or its bytes, validated by ``artifact.read_onnx``.
            info: what it says of itself.
            device: ``cpu``; ``cuda``, which never falls back to the CPU; or ``auto``: CUDA where this ONNX Runtime has
                it, a GPU is there and the wanted operators run on it, else the CPU.
            threads: that one operator may use; None leaves the choice to ONNX Runtime (all cores).
            operators: ``library``, ``function body``, or ``auto``: the library where it has kernels for the device.
            providers: ONNX Runtime's names of execution providers, first choice first; None follows the device.

        Raises:
            ConfigError: for an option that is none of these, a missing library, provider or GPU.
            ModelFileError: where ONNX Runtime refuses the model.
        """
        self._session, self.device, self.operators = open_model(
            model, info.precision, device, threads, operators, providers
        )
        self.info = info
        self._model, self._threads = model, threads
        self._providers = self._session.get_providers()
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def _run(self, array: FloatArray) -> FloatArray:
        try:
            logits: FloatArray = self._session.run([self._output], {self._input: array})[0]
        except Exception as error:
            raise ExecutionError(f"ONNX Runtime failed on a batch of {len(array)}: {first_line(error)}") from error
        return logits

    def open_stages(self) -> Stages:
        """By outputs at the ends of the stages, in a copy of the model."""
        import onnx

        from vimdeploy.runtimes.onnx_stages import OnnxStages

        data = self._model if isinstance(self._model, bytes) else self._model.read_bytes()
        return OnnxStages(onnx.load_model_from_string(data), self.info.config, self._open_again)

    def on_one_thread(self) -> OnnxRuntimeSession | None:
        """The same session on one thread; None on a GPU."""
        if self.device == "cuda":
            return None
        return OnnxRuntimeSession(self._model, self.info, "cpu", 1, self.operators, self._providers)

    def _open_again(self, model: bytes) -> InferenceSession:
        """A session of another model, of the same kind as this one."""
        return open_model(model, self.info.precision, "auto", self._threads, self.operators, self._providers)[0]


def session_from_onnx(path: str | Path, **options: Any) -> OnnxRuntimeSession:
    """Open an ONNX file of ours, validated first; options as of ``OnnxRuntimeSession``.

    Raises:
        ModelFileError: where the file is not there, damaged or not ours.
    """
    info = read_onnx(path)[1]  # the model itself is freed before ONNX Runtime reads the file
    return OnnxRuntimeSession(Path(path), info, **options)


def sessions_of_all_operators(
    model: Path | bytes, info: ModelInfo, threads: int | None = None, device: str = "cpu"
) -> list[OnnxRuntimeSession]:
    """A session with the operator library, where it is installed, then one with the function bodies alone."""
    both = ["library", "function body"] if libraries.library_path() else ["function body"]
    return [OnnxRuntimeSession(model, info, device, threads, operators) for operators in both]


def open_model(
    model: Path | bytes,
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    operators: str = "auto",
    providers: Sequence[str] | None = None,
    profile: Path | None = None,
) -> tuple[InferenceSession, str, str]:
    """ONNX Runtime's own session of any ONNX model; all else as of ``OnnxRuntimeSession``.

    Args:
        model: the file, or its bytes.
        precision: of our files: one of ``PRECISIONS``, or ``int8``.
        device: ``auto``, ``cpu``, ``cuda``.
        threads: that one operator may use; None for all cores.
        operators: ``auto``, ``library``, ``function body``.
        providers: instead of those of the device.
        profile: where ONNX Runtime is to write what each node took: the beginning of the file's path.

    Returns:
        The session, its device, and what computes our operators in it.
    """
    if device not in DEVICES:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, found {device!r}.")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, found {threads}.")
    choices = [list(providers)] if providers else DEVICES[device]
    for choice in choices:
        try:
            library = choose_library(operators, CUDA_PROVIDER in choice)
            session = _open(_for_providers(model, precision, choice), choice, threads or 0, library, profile)
            break
        except ConfigError:
            if choice is choices[-1]:
                raise
    give_back_free_memory()
    return session, "cuda" if CUDA_PROVIDER in choice else "cpu", "function body" if library is None else "library"


def _for_providers(model: Path | bytes, precision: str, providers: Sequence[str]) -> Path | bytes:
    """The model as these providers can run it."""
    if precision in ("fp32", INT8) or CUDA_PROVIDER in providers:
        return model
    return with_float32_products(model)


def _open(
    model: Path | bytes, providers: Sequence[str], threads: int, library: Path | None, profile: Path | None
) -> InferenceSession:
    """A session on these providers and on no others."""
    import onnxruntime as ort

    missing_libraries = []
    if CUDA_PROVIDER in providers:
        check_cuda()
        missing_libraries = load_cuda_libraries()
    available = ort.get_available_providers()
    unknown = set(providers) - set(available)
    if unknown:
        raise ConfigError(f"This ONNX Runtime has no {', '.join(sorted(unknown))}; it has: {', '.join(available)}.")
    options = _session_options(CUDA_PROVIDER in providers, threads, library, profile)
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=[(name, _PROVIDER_OPTIONS.get(name, {})) for name in providers],
            enable_fallback=0,  # which would change the device, and print on standard output
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if "CUDA failure" in str(error):
            raise ConfigError(f"ONNX Runtime cannot use CUDA: {first_line(error)}") from error
        raise ModelFileError(f"ONNX Runtime refuses the model: {first_line(error)}") from error
    refused = set(providers) - set(session.get_providers())
    if refused:
        cure = f": it lacks {', '.join(missing_libraries)}; install with: {INSTALL}" if missing_libraries else ""
        raise ConfigError(f"ONNX Runtime cannot start {', '.join(sorted(refused))}{cure}.")
    elsewhere = operators_elsewhere(session, CUDA_PROVIDER) if CUDA_PROVIDER in providers else []
    if elsewhere:
        raise ConfigError(f"Wanted our operators on CUDA, ONNX Runtime put these elsewhere: {', '.join(elsewhere)}.")
    return session


def _session_options(on_cuda: bool, threads: int, library: Path | None, profile: Path | None) -> SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # its errors come as exceptions
    options.intra_op_num_threads = threads
    # A plan of all tensors in one piece would be held beside the pieces of the first call: a third more memory on a
    # CPU, and no time saved (benchmarks/cpu.md).
    options.enable_mem_pattern = on_cuda
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        if library is not None:
            options.register_custom_ops_library(str(library))
    except Exception as error:
        raise ConfigError(
            f"The operator library {library} cannot be loaded ({first_line(error)}); "
            "install vimdeploy again, or use operators='function body'."
        ) from error
    return options


def operators_elsewhere(session: InferenceSession, provider: str) -> list[str]:
    """The nodes of our operators that another provider runs, as far as ONNX Runtime tells: 1.24 and newer do."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    return [
        node.name
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.domain == DOMAIN
    ]
