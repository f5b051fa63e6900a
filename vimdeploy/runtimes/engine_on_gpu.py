"""One engine on one GPU: its memory, its stream, its graph."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from vimdeploy.errors import ExecutionError, InputError, ModelFileError, require
from vimdeploy.flavors import collecting_logger
from vimdeploy.runtimes.base import Array, Arrays
from vimdeploy.runtimes.cuda_graph import CudaGraph, captured
from vimdeploy.text import reason_of

_STREAM_NON_BLOCKING = 1
"""From cuda.h: the stream does not wait for the default stream, on which others in the process may work."""

_MOST_PREPARED = 8
"""Shapes that are kept ready: more than the batch sizes that a busy server mostly sees."""


@dataclass
class _Prepared:
    """An execution context whose inputs have their shapes, and the graph of its work.

    A graph belongs to its context and to the shapes: TensorRT does not say what it does after they change.
    """

    context: Any
    shapes: Mapping[str, tuple[int, ...]]
    runs: int = 0
    graph: CudaGraph | None = None

    def forget_graph(self) -> None:
        if self.graph is not None:
            self.graph.close()
        self.graph = None


class EngineOnGpu:
    """A loaded engine, dynamic in whatever its profile says. Not for two threads at once.

    Buffers are made once, for the largest shapes: in the GPU's memory, and pinned in the CPU's, so that copies are
    asynchronous. The contexts of several shapes share them, and TensorRT's own working memory.
    """

    def __init__(
        self,
        trt: ModuleType,
        plan: bytes,
        gpu: int,
        allow_code: bool,
        prepare: Callable[[Any], None] = lambda runtime: None,
    ) -> None:
        """Load an engine.

        Args:
            trt: the flavour's module.
            plan: the engine.
            gpu: CUDA's number of the GPU.
            allow_code: whether code in the plan may run in this process.
            prepare: is called with TensorRT's runtime before it reads the plan, to give it the plugins.

        Raises:
            ModelFileError: if TensorRT refuses the plan.
            ExecutionError: if the GPU is out of memory, or CUDA fails.
        """
        self._cuda = require("pycuda.driver", "pycuda")
        self._primary = _primary_context(gpu)
        self._cleanup = contextlib.ExitStack()
        self._prepared: dict[Any, _Prepared] = {}
        """By shapes; the one that was used last is at the end."""
        with self._current():
            try:
                self._load(trt, plan, allow_code, prepare)
            except BaseException:
                self._cleanup.close()
                raise

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, in the types that the engine gives.

        A batch beyond the engine's largest runs in parts of that size, and the rest; if that is below the smallest, the
        last row is repeated, and its answers are left out.

        Args:
            inputs: an array for each input, the batch first.

        Raises:
            InputError: for a shape that the engine's profile does not have.
            ExecutionError: if TensorRT or CUDA fails.
        """
        for name, array in inputs.items():
            smallest, largest = self._profile[name]
            if not all(
                low <= size <= high for low, size, high in zip(smallest[1:], array.shape[1:], largest[1:], strict=True)
            ):
                raise InputError(
                    f"The engine was built for {name} from {smallest} to {largest}, found {array.shape}; build it "
                    "again with a wider --shape."
                )
        batch = len(next(iter(inputs.values())))
        parts = [
            {
                name: _padded(array[start : start + self._largest_batch], self._smallest_batch)
                for name, array in inputs.items()
            }
            for start in range(0, batch, self._largest_batch)
        ]
        with self._current():
            found = [self._run_part(part) for part in parts]
        return {name: np.concatenate([part[name] for part in found])[:batch] for name in found[0]}

    def close(self) -> None:
        """Give back all memory, in the order in which one thing needs the other; a second call does nothing."""
        with contextlib.suppress(ExecutionError), self._current():
            self._cleanup.close()

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """CUDA's primary context, which PyTorch and ONNX Runtime use too, current here and no longer than needed."""
        try:
            self._primary.push()
            try:
                yield
            finally:
                self._primary.pop()
        except self._cuda.Error as error:
            raise ExecutionError(f"CUDA failed: {reason_of(error)}") from error

    def _load(self, trt: ModuleType, plan: bytes, allow_code: bool, prepare: Callable[[Any], None]) -> None:
        logger = collecting_logger(trt)
        runtime = trt.Runtime(logger)
        if logger.errors:  # TensorRT gives an object that ends the process when it is used
            raise ExecutionError(f"TensorRT cannot start: {logger.reason()}")
        if allow_code:
            runtime.engine_host_code_allowed = True
        prepare(runtime)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ModelFileError(f"TensorRT refuses the engine: {logger.reason()}; build it again: vimdeploy build")
        self._trt, self._runtime, self._engine, self._logger = trt, runtime, engine, logger
        # RTX compiles kernels for new shapes as they come, and captures its graphs itself in between.
        self._captures = not hasattr(trt, "CudaGraphStrategy")
        if self._captures:
            old = not hasattr(engine, "device_memory_size_v2")  # TensorRT 10.0; 11 has the new name alone
            size = engine.device_memory_size if old else engine.device_memory_size_v2
            self._scratch = self._cuda.mem_alloc(max(1, size))
            self._cleanup.callback(self._scratch.free)
        self._cleanup.callback(self._forget_engine)

        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._profile = {}
        for name in inputs:
            smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
            self._profile[name] = tuple(smallest), tuple(largest)
        self._smallest_batch = max(smallest[0] for smallest, _ in self._profile.values())
        self._largest_batch = min(largest[0] for _, largest in self._profile.values())
        self._outputs = [name for name in names if name not in inputs]
        self._on_gpu: dict[str, Any] = {}
        most = self._prepare(
            {name: (self._largest_batch, *largest[1:]) for name, (_, largest) in self._profile.items()}
        )
        self._host = {name: self._buffers(name, self._shape_of(most, name)) for name in names}
        self._give_buffers(most.context)
        self._stream = self._cuda.Stream(_STREAM_NON_BLOCKING)
        self._cleanup.callback(self._forget_stream)
        self._cleanup.callback(self._forget_graphs)

    def _new_context(self) -> Any:
        if self._captures:
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        else:
            strategy = self._engine.create_runtime_config()
            strategy.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise ExecutionError(f"TensorRT cannot prepare the engine: {self._logger.reason()}")
        if self._captures:
            context.device_memory = int(self._scratch)
        self._give_buffers(context)
        return context

    def _give_buffers(self, context: Any) -> None:
        for name, on_gpu in self._on_gpu.items():
            context.set_tensor_address(name, int(on_gpu))

    def _buffers(self, name: str, shape: tuple[int, ...]) -> Any:
        """Make a tensor's place in the GPU's memory, and the one in the CPU's, a row of elements, which is given."""
        pinned = self._cuda.pagelocked_empty(math.prod(shape), self._trt.nptype(self._engine.get_tensor_dtype(name)))
        self._cleanup.callback(pinned.base.free)
        self._on_gpu[name] = self._cuda.mem_alloc(pinned.nbytes)
        self._cleanup.callback(self._on_gpu[name].free)
        return pinned

    def _run_part(self, inputs: Arrays) -> Arrays:
        prepared = self._prepare({name: array.shape for name, array in inputs.items()})
        for name, array in inputs.items():
            self._used(prepared, name)[:] = array.ravel()
        # In the first run of some shapes TensorRT does what it does only once, which must not be captured.
        if self._captures and prepared.runs == 1:
            prepared.graph = captured(self._stream.handle, lambda: self._enqueue(prepared))
        if prepared.graph is None or not prepared.graph.launch(self._stream.handle):
            self._enqueue(prepared)
        self._stream.synchronize()
        prepared.runs += 1
        return {
            name: np.array(self._used(prepared, name)).reshape(self._shape_of(prepared, name)) for name in self._outputs
        }

    def _prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> _Prepared:
        """The context for some shapes: the one that had them before, a new one, or the one that waited longest."""
        key = tuple(sorted(shapes.items()))
        prepared = self._prepared.pop(key, None)
        if prepared is None:
            if len(self._prepared) < (_MOST_PREPARED if self._captures else 1):
                context = self._new_context()
            else:
                oldest = self._prepared.pop(next(iter(self._prepared)))
                oldest.forget_graph()
                context = oldest.context
            for name, shape in shapes.items():
                if not context.set_input_shape(name, shape):
                    raise ExecutionError(f"TensorRT refuses {name} {shape}: {self._logger.reason()}")
            prepared = _Prepared(context, shapes)
        self._prepared[key] = prepared
        return prepared

    def _shape_of(self, prepared: _Prepared, name: str) -> tuple[int, ...]:
        return prepared.shapes[name] if name in prepared.shapes else tuple(prepared.context.get_tensor_shape(name))

    def _used(self, prepared: _Prepared, name: str) -> Any:
        """The part of a tensor's place in the CPU's memory that a run uses."""
        return self._host[name][: math.prod(self._shape_of(prepared, name))]

    def _enqueue(self, prepared: _Prepared) -> None:
        """Put the copies and the engine's work into the stream."""
        for name in self._profile:
            self._cuda.memcpy_htod_async(self._on_gpu[name], self._used(prepared, name), self._stream)
        if not prepared.context.execute_async_v3(self._stream.handle):
            raise ExecutionError(f"TensorRT failed on {dict(prepared.shapes)}: {self._logger.reason()}")
        for name in self._outputs:
            self._cuda.memcpy_dtoh_async(self._used(prepared, name), self._on_gpu[name], self._stream)

    def _forget_graphs(self) -> None:
        for prepared in self._prepared.values():
            prepared.forget_graph()

    def _forget_stream(self) -> None:
        self._stream.synchronize()
        self._stream = None

    def _forget_engine(self) -> None:
        self._prepared.clear()
        self._engine = None
        self._runtime = None


def _padded(array: Array, smallest: int) -> Array:
    """An array with at least so many rows: the last one is repeated."""
    missing = smallest - len(array)
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


@cache
def _primary_context(gpu: int) -> Any:
    """The GPU's primary context, kept for the life of the process.

    pycuda's ``detach`` would leave a context behind on the thread's stack of them.
    """
    cuda = require("pycuda.driver", "pycuda")
    cuda.init()
    return cuda.Device(gpu).retain_primary_context()
