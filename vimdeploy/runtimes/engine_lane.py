"""A lane of an engine: what one run at a time needs, so that several threads run an engine at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.cuda_graph import CudaGraph, captured
from vimdeploy.runtimes.cuda_streams import Event, copy_on_gpu
from vimdeploy.runtimes.gpu_arrays import GpuArray
from vimdeploy.runtimes.profiles import Part, Profile, Shape, Shapes

_STREAM_NON_BLOCKING = 1
"""From cuda.h: the stream does not wait for the default stream, on which others in the process may work."""

_MOST_CONTEXTS = 8
"""Shapes that a lane keeps ready: more than the batch sizes that a busy server mostly sees."""


@dataclass(frozen=True)
class LoadedEngine:
    """What TensorRT has read, and what it says of it."""

    trt: ModuleType
    cuda: ModuleType
    """pycuda's driver."""
    engine: Any
    logger: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    profiles: tuple[Profile, ...]
    most: dict[str, int] = field(default_factory=dict)
    """The elements of each tensor at the largest shapes; the first lane finds them."""

    @property
    def captures(self) -> bool:
        """Whether graphs are captured here: RTX compiles kernels for new shapes as they come, and does it itself."""
        return not hasattr(self.trt, "CudaGraphStrategy")

    @property
    def working_memory(self) -> int:
        """The bytes that its contexts work in; RTX gives each its own."""
        if not self.captures:
            return 0
        old = not hasattr(self.engine, "device_memory_size_v2")  # TensorRT 10.0; 11 has the new name alone
        return max(1, self.engine.device_memory_size if old else self.engine.device_memory_size_v2)

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of a tensor's elements."""
        return np.dtype(self.trt.nptype(self.engine.get_tensor_dtype(name)))

    def new_context(self) -> Any:
        """An execution context of TensorRT, without working memory.

        Raises:
            ExecutionError: if TensorRT has none.
        """
        if self.captures:
            strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        else:
            strategy = self.engine.create_runtime_config()
            strategy.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = self.engine.create_execution_context(strategy)
        if context is None:
            raise ExecutionError(f"TensorRT cannot prepare the engine: {self.logger.reason()}")
        return context


class _Context:
    """An execution context whose inputs have their shapes, and the graph of its work.

    A graph belongs to its context and to the shapes: TensorRT does not say what it does after they change.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        self._loaded = loaded
        self.own = loaded.new_context()
        self.shapes: dict[str, Shape] = {}
        """The shapes of inputs and outputs."""
        self.runs = 0
        self.graph: CudaGraph | None = None
        self._profile = 0  # as TensorRT begins with

    def set(self, profile: Profile, shapes: Shapes, stream: Any) -> None:
        """Give the inputs their shapes."""
        self.forget_graph()
        self.runs = 0
        if profile.index != self._profile:
            if not self.own.set_optimization_profile_async(profile.index, stream.handle):
                raise ExecutionError(f"TensorRT refuses profile {profile.index}: {self._loaded.logger.reason()}")
            stream.synchronize()  # any stream may run it next
            self._profile = profile.index
        for name, shape in shapes.items():
            if not self.own.set_input_shape(name, shape):
                raise ExecutionError(f"TensorRT refuses {name} {shape}: {self._loaded.logger.reason()}")
        self.shapes = {**shapes, **{name: tuple(self.own.get_tensor_shape(name)) for name in self._loaded.outputs}}

    def forget_graph(self) -> None:
        """Free the graph."""
        if self.graph is not None:
            self.graph.close()
        self.graph = None


class Lane:
    """A stream, and what runs on it, one call at a time; CUDA's context is current in all that it does.

    Buffers are made once, for the largest shapes: in the GPU's memory, and pinned in the CPU's, so that copies are
    asynchronous. The contexts of several shapes share them, and TensorRT's working memory. Their addresses never
    change, so one graph serves inputs and outputs wherever they are: the copies around it are not in it.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        """Make a lane.

        Raises:
            ExecutionError: if TensorRT has no context for it.
        """
        self._loaded = loaded
        self._contexts: dict[tuple[Any, ...], _Context] = {}
        self._spare: list[_Context] = []
        self._host: dict[str, Any] = {}
        self._on_gpu: dict[str, Any] = {}
        self._is_awaited = False
        """Whether a caller's stream may still be at work here."""
        self._cleanup = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self._cleanup.close)
            self._make()
            undo.pop_all()

    @property
    def gpu_bytes(self) -> int:
        """What it takes of the GPU's memory, beside what TensorRT takes for itself."""
        return self._loaded.working_memory + sum(array.nbytes for array in self._host.values())

    def run(self, part: Part, inputs: Arrays) -> Arrays:
        """The outputs of rows of a batch.

        Args:
            part: which rows, and how they run.
            inputs: of the whole batch.

        Raises:
            ExecutionError: if TensorRT or CUDA fails.
        """
        cuda, context = self._loaded.cuda, self._context_for(part, inputs)
        with self._used_on(None) as stream:
            for name, array in inputs.items():
                used = self._used(context, name)
                rows = used.reshape(context.shapes[name])
                rows[: part.rows] = array[part.start : part.start + part.rows]
                rows[part.rows :] = rows[part.rows - 1]
                cuda.memcpy_htod_async(self._on_gpu[name], used, self.stream)
            self._compute(context, stream)
            for name in self._loaded.outputs:
                cuda.memcpy_dtoh_async(self._used(context, name), self._on_gpu[name], self.stream)
        return {
            name: np.array(self._used(context, name)).reshape(context.shapes[name])[: part.rows]
            for name in self._loaded.outputs
        }

    def run_on_gpu(
        self, parts: list[Part], inputs: Mapping[str, GpuArray], outputs: Mapping[str, GpuArray], stream: int | None
    ) -> None:
        """Write the outputs of a batch whose arrays are on the GPU.

        Args:
            parts: how it runs.
            inputs: of the whole batch.
            outputs: of the whole batch.
            stream: the handle of the stream to run on, without waiting for it; None: the lane's own, to its end.

        Raises:
            ExecutionError: if TensorRT or CUDA fails.
        """
        with self._used_on(stream) as handle:
            for part in parts:
                context = self._context_for(part, inputs)
                for name, array in inputs.items():
                    row = array.nbytes // array.shape[0]
                    buffer, source = int(self._on_gpu[name]), array.address + part.start * row
                    copy_on_gpu(buffer, source, part.rows * row, handle)
                    for number in range(part.rows, part.computed):
                        copy_on_gpu(buffer + number * row, source + (part.rows - 1) * row, row, handle)
                self._compute(context, handle)
                for name, array in outputs.items():
                    row = array.nbytes // array.shape[0]
                    copy_on_gpu(array.address + part.start * row, int(self._on_gpu[name]), part.rows * row, handle)

    def shapes(self, part: Part, inputs: Mapping[str, Any]) -> Mapping[str, Shape]:
        """The shapes of a part's outputs, among others."""
        return self._context_for(part, inputs).shapes

    def close(self) -> None:
        """Give back all memory, once nothing uses it."""
        self._cleanup.close()

    def _make(self) -> None:
        loaded, cuda = self._loaded, self._loaded.cuda
        if loaded.captures:
            self._scratch = cuda.mem_alloc(loaded.working_memory)
            self._cleanup.callback(self._scratch.free)
        self._cleanup.callback(self._forget_contexts)
        self.stream = cuda.Stream(_STREAM_NON_BLOCKING)
        self._done = Event()
        self._cleanup.callback(self._done.close)
        if not loaded.most:
            self._spare.append(self._measured())
        for name, count in loaded.most.items():
            self._host[name] = pinned = cuda.pagelocked_empty(count, loaded.dtype(name))
            self._cleanup.callback(pinned.base.free)
            self._on_gpu[name] = cuda.mem_alloc(pinned.nbytes)
            self._cleanup.callback(self._on_gpu[name].free)
        self._cleanup.callback(self._forget_graphs)
        self._cleanup.callback(self._settle)

    def _measured(self) -> _Context:
        """Find how large the tensors become; a context that can be used for any shape comes of it."""
        context = _Context(self._loaded)
        for profile in self._loaded.profiles:
            largest = {name: (profile.batches[1], *shape[1:]) for name, shape in profile.largest.items()}
            context.set(profile, largest, self.stream)
            for name, shape in context.shapes.items():
                self._loaded.most[name] = max(self._loaded.most.get(name, 0), math.prod(shape))
        return context

    def _context_for(self, part: Part, inputs: Mapping[str, Any]) -> _Context:
        """The context for a part: the one that had its shapes before, a new one, or the one that waited longest."""
        shapes = {name: (part.computed, *array.shape[1:]) for name, array in inputs.items()}
        key = (part.profile.index, *sorted(shapes.items()))
        context = self._contexts.pop(key, None)
        if context is None:
            if len(self._contexts) < (_MOST_CONTEXTS if self._loaded.captures else 1):
                context = self._spare.pop() if self._spare else _Context(self._loaded)
                if self._loaded.captures:
                    context.own.device_memory = int(self._scratch)
                for name, on_gpu in self._on_gpu.items():
                    context.own.set_tensor_address(name, int(on_gpu))
            else:
                context = self._contexts.pop(next(iter(self._contexts)))
                self._settle()
            context.set(part.profile, shapes, self.stream)
        self._contexts[key] = context
        return context

    @contextlib.contextmanager
    def _used_on(self, stream: int | None) -> Iterator[int]:
        """The handle of the stream to work on; what comes after on any stream waits for it, also if it fails."""
        handle = self.stream.handle if stream is None else stream
        if self._is_awaited:
            self._done.precede(handle)
        try:
            yield handle
        finally:
            if stream is None:
                self.stream.synchronize()
                self._is_awaited = False
            else:
                self._done.record(handle)
                self._is_awaited = True

    def _used(self, context: _Context, name: str) -> Any:
        """The part of a tensor's place in the CPU's memory that a run uses."""
        return self._host[name][: math.prod(context.shapes[name])]

    def _compute(self, context: _Context, stream: int) -> None:
        """Put the engine's work into a stream."""
        # In the first run of some shapes TensorRT does what it does only once, which must not be captured.
        if self._loaded.captures and context.runs == 1:
            context.graph = captured(self.stream.handle, lambda: self._enqueue(context, self.stream.handle))
        if context.graph is None or not context.graph.launch(stream):
            self._enqueue(context, stream)
        context.runs += 1

    def _enqueue(self, context: _Context, stream: int) -> None:
        if not context.own.execute_async_v3(stream):
            shapes = {name: context.shapes[name] for name in self._loaded.inputs}
            raise ExecutionError(f"TensorRT failed on {shapes}: {self._loaded.logger.reason()}")

    def _settle(self) -> None:
        """Wait for all that was begun here."""
        if self._is_awaited:
            self._done.synchronize()
            self._is_awaited = False
        self.stream.synchronize()

    def _forget_graphs(self) -> None:
        for context in self._contexts.values():
            context.forget_graph()

    def _forget_contexts(self) -> None:
        self._contexts.clear()
        self._spare.clear()
        self.stream = None
