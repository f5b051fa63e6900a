"""ONNX Runtime as a runtime: our operators by the library if it is installed, else by the file's function bodies."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from vimdeploy import libraries
from vimdeploy.artifact import Artifact
from vimdeploy.errors import ConfigError, ModelFileError, require
from vimdeploy.gpu import Device, device_of
from vimdeploy.graphs.float32_products import with_float32_products
from vimdeploy.model_info import INT8
from vimdeploy.networks import stages_of
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.runtimes.base import Arrays, Session, Stages, check_threads
from vimdeploy.runtimes.cuda_provider import CUDA_PROVIDER, INSTALL, check_cuda, load_cuda_libraries
from vimdeploy.runtimes.operator_library import ChosenLibrary, choose_library, warn_of_slow_operators
from vimdeploy.runtimes.runs import run_session
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

_CPU = ["CPUExecutionProvider"]
_CUDA = [CUDA_PROVIDER, *_CPU]  # the CPU computes shapes
_PROVIDERS = {"auto": [_CUDA, _CPU], "cpu": [_CPU], "cuda": [_CUDA]}
"""The providers of each; ``auto`` takes the first that this machine and the other options allow."""


class OnnxRuntimeSession(Session):
    """An ONNX file in ONNX Runtime."""

    runtime = "ONNX Runtime"
    is_shared = True

    def __init__(
        self,
        artifact: Artifact,
        device: str = "auto",
        threads: int | None = None,
        operators: str = "auto",
        providers: Sequence[str] | None = None,
    ) -> None:
        """Open a session.

        Args:
            artifact: the model.
            device: ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU, which never fall back to the CPU; or ``auto``:
                CUDA if this ONNX Runtime has it, a GPU is there and the wanted operators run on it, else the CPU.
            threads: that one operator may use; None leaves the choice to ONNX Runtime (all cores).
            operators: ``library``, ``function-body``, or ``auto``: the library if it has kernels for the device.
            providers: ONNX Runtime's names of execution providers, first choice first; None follows the device.

        Raises:
            ConfigError: for an option that is none of these, a missing library, provider or GPU.
            ModelFileError: if ONNX Runtime refuses the model.
        """
        self.artifact, self.info = artifact, artifact.info
        self._threads = threads
        self._options = (device, threads, operators, providers)
        opened = open_model(artifact, *self._options)
        self._session: InferenceSession | None
        self._session, self.device, self.operators = opened
        self._chosen = self.operators or operators
        self._providers = opened.session.get_providers()
        self._outputs = [spec.name for spec in self.info.outputs]
        _sessions.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """As its file and its options: the process that unpickles it opens it again."""
        return OnnxRuntimeSession, (self.artifact, *self._options)

    def _run(self, inputs: Arrays) -> Arrays:
        if self._session is None:
            self._session = open_model(self.artifact, *self._options).session
        return run_session(self._session, self._outputs, inputs)

    def after_fork(self) -> None:
        """Forget ONNX Runtime's session in a forked process, which has none of its threads.

        It would wait for them for ever when it is freed, so it never is; the next run opens another one.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None

    def open_stages(self) -> Stages:
        """Found by outputs at the ends of the stages, in a copy of the model."""
        from vimdeploy.runtimes.onnx_stages import OnnxStages

        return OnnxStages(self.artifact.model, stages_of(self.info), self._open_again)

    def on_one_thread(self) -> OnnxRuntimeSession | None:
        """The same session on one thread; None on a GPU."""
        if self.runs_on_gpu:
            return None
        return OnnxRuntimeSession(self.artifact, "cpu", 1, self._chosen, self._providers)

    def _open_again(self, model: onnx.ModelProto) -> InferenceSession:
        """A session of another model, of the same kind as this one."""
        again = Artifact(None, model.SerializeToString(), self.info, model=model)
        device = self._options[0]
        return open_model(again, device, self._threads, self._chosen, self._providers).session


_sessions: WeakSet[OnnxRuntimeSession] = WeakSet()


def _after_fork() -> None:
    for session in list(_sessions):
        session.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def sessions_of_all_operators(
    artifact: Artifact, threads: int | None = None, device: str = "cpu"
) -> list[OnnxRuntimeSession]:
    """A session with the operator library, if it is installed, then one with the function bodies alone.

    A model without operators of ours has one session, and so has one whose function bodies another tool has dropped.
    """
    if not artifact.has_operators:
        ways = ["auto"]
    else:
        ways = [*(["library"] if libraries.library_path() else []), *(["function-body"] if artifact.has_bodies else [])]
    return [OnnxRuntimeSession(artifact, device, threads, operators) for operators in ways or ["auto"]]


class OpenedModel(NamedTuple):
    """ONNX Runtime's own session of a model."""

    session: InferenceSession
    device: str
    operators: str
    """What computes our operators; empty if the model has none."""


def open_model(
    artifact: Artifact,
    device: str = "auto",
    threads: int | None = None,
    operators: str = "auto",
    providers: Sequence[str] | None = None,
    profile: Path | None = None,
) -> OpenedModel:
    """ONNX Runtime's own session of any ONNX model; all else as of ``OnnxRuntimeSession``.

    Args:
        artifact: the model.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        threads: that one operator may use; None for all cores.
        operators: ``auto``, ``library``, ``function-body``.
        providers: instead of those of the device.
        profile: where ONNX Runtime is to write what each node took: the beginning of the file's path.
    """
    wanted = device_of(device)
    check_threads(threads)
    choices = [list(providers)] if providers else _PROVIDERS[wanted.kind]
    for choice in choices:
        runs_on = Device("cuda", wanted.index) if CUDA_PROVIDER in choice else Device("cpu")
        try:
            library, lack = _library(artifact, operators, runs_on)
            session = _open(for_providers(artifact, choice), choice, runs_on, threads or 0, library, profile)
            break
        except ConfigError:
            if choice is choices[-1]:
                raise
    artifact.forget_contents()
    _give_back_free_memory()
    if lack:
        warn_of_slow_operators(lack)
    computed_by = ("function body" if library is None else "library") if artifact.has_operators else ""
    return OpenedModel(session, str(runs_on), computed_by)


def _library(artifact: Artifact, operators: str, device: Device) -> ChosenLibrary:
    """What to register; nothing for a model without operators of ours.

    Raises:
        ConfigError: if ``library`` is wanted and cannot be had.
        ModelFileError: if what is wanted is not in the file.
    """
    changes = ", and ".join(artifact.changes)
    if not artifact.has_operators and operators == "auto":
        return ChosenLibrary(None, f"In {artifact}, {changes}; export it again" if changes else "")
    chosen = choose_library(operators, device)
    if not artifact.has_operators:
        if artifact.info.form and chosen.library is not None:
            raise ModelFileError(
                f"Wanted the library to compute; {artifact} is {artifact.info.form}: it has standard operators alone. "
                "Use the file that it was made from, or operators='auto'."
            )
        if changes and chosen.library is not None:
            raise ModelFileError(
                f"Wanted the library to compute; in {artifact}, {changes}: nothing is left for it. Export it again, or "
                "use operators='auto'."
            )
        return ChosenLibrary(None)
    if chosen.library is None and not artifact.has_bodies:
        raise ModelFileError(
            f"Only the library can run {artifact}: {changes or 'its function bodies are gone'}. "
            f"{f'{chosen.lack}; or export' if chosen.lack else 'Export'} it again."
        )
    return chosen


def for_providers(artifact: Artifact, providers: Sequence[str]) -> Path | bytes:
    """The model as these providers can run it, which for a CPU may not be as it is stored.

    Raises:
        ModelFileError: if a CPU would have to know what another tool has dropped.
    """
    if artifact.info.precision in ("fp32", INT8) or CUDA_PROVIDER in providers:
        return artifact.path or artifact.data
    if not artifact.model.graph.value_info:
        raise ModelFileError(
            f"A CPU cannot run {artifact} in {artifact.info.precision}: the types of inner values are gone, dropped by "
            "another tool; export it again."
        )
    return with_float32_products(artifact.model)


def _open(
    model: Path | bytes,
    providers: Sequence[str],
    device: Device,
    threads: int,
    library: Path | None,
    profile: Path | None,
) -> InferenceSession:
    """A session on these providers and on no others."""
    ort = require("onnxruntime", "cpu")

    missing_libraries = []
    if CUDA_PROVIDER in providers:
        check_cuda(device)
        missing_libraries = load_cuda_libraries()
    available = ort.get_available_providers()
    unknown = set(providers) - set(available)
    if unknown:
        raise ConfigError(f"This ONNX Runtime has no {', '.join(sorted(unknown))}; it has: {', '.join(available)}.")
    options = _session_options(CUDA_PROVIDER in providers, threads, library, profile)
    # TF32 would round the factors of float32 products to 10 bits.
    provider_options = {CUDA_PROVIDER: {"use_tf32": "0", "device_id": str(device.index)}}
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=[(name, provider_options.get(name, {})) for name in providers],
            enable_fallback=0,  # which would change the device, and print on standard output
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if "CUDA failure" in str(error):
            raise ConfigError(f"ONNX Runtime cannot use CUDA: {reason_of(error)}") from error
        raise ModelFileError(f"ONNX Runtime refuses the model: {reason_of(error)}") from error
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
            f"The operator library {library} cannot be loaded ({reason_of(error)}); "
            "install vimdeploy again, or use operators='function-body'."
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


def _give_back_free_memory() -> None:
    """Give the free pages of the heap back to the system. glibc keeps all that lie below one that is used.

    Reading a model and opening its session leave many: 17 MB for Vim-Ti, whose weights are 29 MB. C libraries other
    than glibc are left alone.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))
