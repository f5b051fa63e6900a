"""ONNX Runtime as a runtime: our operators by the library if it is installed, else by the file's function bodies."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from vimdeploy import libraries
from vimdeploy.artifact import Artifact
from vimdeploy.errors import ConfigError, InputError, ModelFileError, require
from vimdeploy.gpu import Device, current, device_of
from vimdeploy.graphs.float32_products import with_float32_products
from vimdeploy.model_info import INT8
from vimdeploy.networks import stages_of
from vimdeploy.ops.contract import DOMAIN
from vimdeploy.runtimes.base import Arrays, Session, Stages, check_threads
from vimdeploy.runtimes.bound_runs import CapturedRuns, Copies, run_on_gpu
from vimdeploy.runtimes.cuda_provider import CPU_PROVIDER, CUDA_PROVIDER, INSTALL, check_cuda, load_cuda_libraries
from vimdeploy.runtimes.cuda_streams import LEGACY_STREAM, synchronize, wait_for
from vimdeploy.runtimes.gpu_arrays import empty, stream_of_torch
from vimdeploy.runtimes.operator_library import ChosenLibrary, choose_library, warn_of_slow_operators
from vimdeploy.runtimes.providers import Provider, Providers, provider_choices
from vimdeploy.runtimes.runs import run_session
from vimdeploy.text import reason_of

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession, SessionOptions


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
        providers: Sequence[Provider] | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        """Open a session.

        Args:
            artifact: the model.
            device: ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU, which never fall back to the CPU; or ``auto``:
                CUDA if this ONNX Runtime has it, a GPU is there and the wanted operators run on it, else the CPU.
            threads: that one operator may use; None leaves the choice to ONNX Runtime (all cores).
            operators: ``library``, ``function-body``, or ``auto``: the library if it has kernels for the device.
            providers: ONNX Runtime's names of execution providers, first choice first, built in or plugins; None
                follows the device. A plugin runs on its first device, with device ``cuda:1`` on its second; it is
                refused if it would run no part of the model. A name may come with ONNX Runtime's options for it, as a
                pair of the two.
            cuda_graphs: on CUDA, give a GPU all of a run in one call, as it was captured in the second run of the same
                shapes; the first 8 shapes are captured. Threads then run one after the other.

        Raises:
            ConfigError: for an option that is none of these, a missing library, provider or GPU.
            ModelFileError: if ONNX Runtime refuses the model.
        """
        self.artifact, self.info = artifact, artifact.info
        self._threads = threads
        self._options = (device, threads, operators, providers, cuda_graphs)
        opened = open_model(artifact, *self._options)
        self._session: InferenceSession | None
        self._session, self.device, self.operators, self._plugins, self._stream = opened
        self._chosen = self.operators or operators
        self._providers = providers or opened.session.get_providers()
        self._types = {spec.name: spec.type for spec in self.info.outputs}
        self._outputs = list(self._types)
        self._captured = self._captured_runs()
        _sessions.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """As its file and its options: the process that unpickles it opens it again."""
        return OnnxRuntimeSession, (self.artifact, *self._options)

    @property
    def description(self) -> str:
        """As of every session, and the plugins that it runs on."""
        how = ", ".join(part for part in (self.operators, self.device, *self._plugins) if part)
        return f"{self.runtime} ({how})"

    def _run(self, inputs: Arrays) -> Arrays:
        session = self._opened()
        if self._captured is not None:
            return self._captured.run(inputs)
        return run_session(session, self._outputs, inputs)

    def _run_on_gpu(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int | None) -> dict[str, Any]:
        """As ``run``. ONNX Runtime works in streams of its own, so a caller's is waited for before and after.

        It is not if the session was opened with one, by the provider's option user_compute_stream.
        """
        unknown = outputs.keys() - set(self._outputs)
        if unknown:
            raise InputError(f"Wanted outputs among {', '.join(self._outputs)}; found {', '.join(unknown)}.")
        session, gpu, own = self._opened(), device_of(self.device).index, self._stream
        if self._captured is not None:
            own = None  # its runs are in one thread, one after the other
        works_in = next(found for found in (own, stream, LEGACY_STREAM) if found is not None)
        with current(gpu):
            if own is not None and stream is not None:
                wait_for(stream, own)
            arrays = self._taken(inputs, works_in)
            if own is None:
                synchronize(works_in)
        like = next(iter(inputs.values()))
        home = stream_of_torch(like, gpu) if stream is None else stream
        waits = own is None or stream is None
        copies = Copies(arrays, outputs, self._types, partial(empty, like, gpu=gpu, stream=home), gpu, works_in, waits)
        if self._captured is not None:
            return self._captured.run_by(arrays, copies.give, copies.take)
        found = run_on_gpu(session, self._outputs, arrays, copies.take, waits)
        if own is not None and stream is not None:
            with current(gpu):
                wait_for(own, stream)
        return found

    def _opened(self) -> InferenceSession:
        """ONNX Runtime's session, which is another one in a forked process."""
        if self._session is None:
            self._session = open_model(self.artifact, *self._options).session
            self._captured = self._captured_runs()
        return self._session

    def _captured_runs(self) -> CapturedRuns | None:
        *_, cuda_graphs = self._options
        if not cuda_graphs:
            return None
        return CapturedRuns(self._session, self._outputs, device_of(self.device).index)

    def after_fork(self) -> None:
        """Forget ONNX Runtime's session in a forked process, which has none of its threads.

        It would wait for them for ever when it is freed, so it never is; the next run opens another one.
        """
        for kept in (self._session, self._captured):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        self._session = self._captured = None

    def open_stages(self) -> Stages:
        """Found by outputs at the ends of the stages, in a copy of the model."""
        from vimdeploy.runtimes.onnx_stages import OnnxStages

        return OnnxStages(self.artifact.model, stages_of(self.info), self._open_again)

    def on_one_thread(self) -> OnnxRuntimeSession | None:
        """The same session on one thread; None if it runs elsewhere than on a CPU."""
        if self.device != "cpu":
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
    plugins: tuple[str, ...]
    """The providers that are plugins."""
    stream: int | None
    """The CUDA stream that it was told to work in, if it was."""


def open_model(
    artifact: Artifact,
    device: str = "auto",
    threads: int | None = None,
    operators: str = "auto",
    providers: Sequence[Provider] | None = None,
    cuda_graphs: bool = False,
    profile: Path | None = None,
) -> OpenedModel:
    """ONNX Runtime's own session of any ONNX model; all else as of ``OnnxRuntimeSession``.

    Args:
        artifact: the model.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        threads: that one operator may use; None for all cores.
        operators: ``auto``, ``library``, ``function-body``.
        providers: instead of those of the device.
        cuda_graphs: let ONNX Runtime capture CUDA graphs; its session then wants runs of ``bound_runs``.
        profile: where ONNX Runtime is to write what each node took: the beginning of the file's path.
    """
    check_threads(threads)
    choices = provider_choices(providers, device_of(device), cuda_graphs)
    for chosen in choices:
        try:
            library, lack = _library(artifact, operators, chosen)
            session = _open(artifact, chosen, threads or 0, library, profile)
            break
        except ConfigError:
            if chosen is choices[-1]:
                raise
    artifact.forget_contents()
    _give_back_free_memory()
    if lack:
        warn_of_slow_operators(lack)
    computed_by = ("function body" if library is None else "library") if artifact.has_operators else ""
    return OpenedModel(session, str(chosen.device), computed_by, tuple(chosen.plugins), chosen.stream)


def _library(artifact: Artifact, operators: str, providers: Providers) -> ChosenLibrary:
    """What to register; nothing for a model without operators of ours.

    A plugin has no kernels for our operators: registered, they would be the CPU's, and cut its part of the model to
    pieces. So ``auto`` gives it the function bodies.

    Raises:
        ConfigError: if ``library`` is wanted and cannot be had.
        ModelFileError: if what is wanted is not in the file.
    """
    changes = ", and ".join(artifact.changes)
    if not artifact.has_operators and operators == "auto":
        return ChosenLibrary(None, f"In {artifact}, {changes}; export it again" if changes else "")
    if providers.plugins and operators == "auto" and artifact.has_bodies:
        return ChosenLibrary(None)
    chosen = choose_library(operators, providers.device if providers.on_cuda else Device("cpu"))
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


def for_cpu(artifact: Artifact) -> Path | bytes:
    """The model as a CPU can run it, which in float16 and bfloat16 is not as it is stored.

    Raises:
        ModelFileError: if a CPU would have to know what another tool has dropped.
    """
    if artifact.info.precision in ("fp32", INT8):
        return artifact.path or artifact.data
    if not artifact.model.graph.value_info:
        raise ModelFileError(
            f"A CPU cannot run {artifact} in {artifact.info.precision}: the types of inner values are gone, dropped by "
            "another tool; export it again."
        )
    return with_float32_products(artifact.model)


def _open(
    artifact: Artifact, providers: Providers, threads: int, library: Path | None, profile: Path | None
) -> InferenceSession:
    """A session on these providers and on no others."""
    ort = require("onnxruntime", "cpu")

    missing_libraries = []
    if providers.on_cuda:
        check_cuda(providers.device)
        missing_libraries = load_cuda_libraries()
    model = for_cpu(artifact) if providers.device.kind == "cpu" else artifact.path or artifact.data
    options = _session_options(providers.on_cuda, threads, library, profile)
    named = [(name, providers.options.get(name, {})) for name in providers.names]
    try:
        if providers.plugins:
            for name, given in named:
                if name in providers.plugins:
                    options.add_provider_for_devices([providers.plugins[name]], given)
                elif name != CPU_PROVIDER:  # it comes last anyway
                    options.add_provider(name, given)
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=None if providers.plugins else named,
            enable_fallback=0,  # which would change the device, and print on standard output
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if "CUDA failure" in str(error):
            raise ConfigError(f"ONNX Runtime cannot use CUDA: {reason_of(error)}") from error
        if "graph capture" in str(error):
            raise ConfigError(
                f"ONNX Runtime captures no CUDA graph of the model: {reason_of(error)}; leave cuda_graphs out."
            ) from error
        raise ModelFileError(f"ONNX Runtime refuses the model: {reason_of(error)}") from error
    refused = set(providers.names) - set(session.get_providers())
    if refused:
        cure = f": it lacks {', '.join(missing_libraries)}; install with: {INSTALL}" if missing_libraries else ""
        raise ConfigError(f"ONNX Runtime cannot start {', '.join(sorted(refused))}{cure}.")
    elsewhere = operators_elsewhere(session, CUDA_PROVIDER) if providers.on_cuda else []
    if elsewhere:
        raise ConfigError(f"Wanted our operators on CUDA, ONNX Runtime put these elsewhere: {', '.join(elsewhere)}.")
    idle = set(providers.plugins) - _working_providers(session)
    if idle:
        raise ConfigError(
            f"{', '.join(sorted(idle))} takes no node of the model, so others would run all of it; name the others."
        )
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


def _working_providers(session: InferenceSession) -> set[str]:
    """The providers that run a node, as far as ONNX Runtime tells: 1.24 and newer do."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return set(session.get_providers())
    return {part.ep_name for part in session.get_provider_graph_assignment_info() if part.get_nodes()}


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
