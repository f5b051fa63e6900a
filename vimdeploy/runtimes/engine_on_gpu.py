"""One engine on one GPU: its memory, its stream, its graph."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from vimdeploy.errors import ExecutionError, InputError, ModelFileError, require
from vimdeploy.flavors import collecting_logger
from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.cuda_graph import CudaGraph, captured
from vimdeploy.text import reason_of

_STREAM_NON_BLOCKING = 1
"""From cuda.h: the stream does not wait for the default stream, on which others in the process may work."""


class EngineOnGpu:
    """A loaded engine, dynamic in whatever its profile says. Not for two threads at once.

    Buffers are made once, for the largest shapes: in the GPU's memory, and pinned in the CPU's, so that copies are
    asynchronous.
    """

    def __init__(self, trt: ModuleType, plan: bytes, gpu: int, allow_code: bool) -> None:
        """Load an engine, its plugins being in the registry.

        Args:
            trt: the flavour's module.
            plan: the engine.
            gpu: CUDA's number of the GPU.
            allow_code: whether code in the plan may run in this process.

        Raises:
            ModelFileError: if TensorRT refuses the plan.
            ExecutionError: if the GPU is out of memory, or CUDA fails.
        """
        self._cuda = require("pycuda.driver", "pycuda")
        self._primary = _primary_context(gpu)
        self._cleanup = contextlib.ExitStack()
        self._graph: CudaGraph | None = None
        self._runs_of_shapes = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        with self._current():
            try:
                self._load(trt, plan, allow_code)
            except BaseException:
                self._cleanup.close()
                raise

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, in the types that the engine gives.

        A batch beyond the engine's largest runs in parts of about equal size.

        Args:
            inputs: an array for each input, the batch first.

        Raises:
            InputError: for a shape that the engine's profile does not have.
            ExecutionError: if TensorRT or CUDA fails.
        """
        batch = len(next(iter(inputs.values())))
        parts = -(-batch // self._largest_batch)
        split = [
            dict(zip(inputs, arrays, strict=True))
            for arrays in zip(*(np.array_split(array, parts) for array in inputs.values()), strict=True)
        ]
        self._check(split[-1], batch)
        with self._current():
            found = [self._run_part(part) for part in split]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _check(self, part: Arrays, batch: int) -> None:
        for name, array in part.items():
            smallest, largest = self._profile[name]
            if len(array) < smallest[0]:
                raise InputError(
                    f"Wanted a batch of {smallest[0]} to {largest[0]} or a multiple of that, found {batch}; build the "
                    "engine again with a smaller MIN in --batch."
                )
            if not all(low <= size <= high for low, size, high in zip(smallest, array.shape, largest, strict=True)):
                raise InputError(
                    f"The engine was built for {name} from {smallest} to {largest}, found {array.shape}; build it "
                    "again with a wider --shape."
                )

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

    def _load(self, trt: ModuleType, plan: bytes, allow_code: bool) -> None:
        logger = collecting_logger(trt)
        runtime = trt.Runtime(logger)
        if logger.errors:  # TensorRT gives an object that ends the process when it is used
            raise ExecutionError(f"TensorRT cannot start: {logger.reason()}")
        if allow_code:
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ModelFileError(f"TensorRT refuses the engine: {logger.reason()}; build it again: vimdeploy build")
        # RTX compiles kernels for new shapes as they come, and captures its graphs itself in between.
        self._captures = not hasattr(trt, "CudaGraphStrategy")
        if self._captures:
            context = engine.create_execution_context()
        else:
            strategy = engine.create_runtime_config()
            strategy.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = engine.create_execution_context(strategy)
        if context is None:
            raise ExecutionError(f"TensorRT cannot prepare the engine: {logger.reason()}")
        self._runtime, self._engine, self._context, self._logger = runtime, engine, context, logger
        self._cleanup.callback(self._forget_engine)

        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._profile = {}
        for name in inputs:
            smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
            self._profile[name] = tuple(smallest), tuple(largest)
        self._largest_batch = min(largest[0] for _, largest in self._profile.values())
        for name, (_, largest) in self._profile.items():
            self._set_input_shape(name, (self._largest_batch, *largest[1:]))
        self._outputs = [name for name in names if name not in inputs]
        self._host, self._on_gpu = {}, {}
        for name in names:
            shape = tuple(context.get_tensor_shape(name))
            self._host[name], self._on_gpu[name] = self._buffers(trt, name, shape)
        self._stream = self._cuda.Stream(_STREAM_NON_BLOCKING)
        self._cleanup.callback(self._forget_stream)
        self._cleanup.callback(self._forget_graph)

    def _buffers(self, trt: ModuleType, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """A tensor's place in the CPU's memory, a row of elements, and in the GPU's, which the engine is told."""
        pinned = self._cuda.pagelocked_empty(math.prod(shape), trt.nptype(self._engine.get_tensor_dtype(name)))
        self._cleanup.callback(pinned.base.free)
        on_gpu = self._cuda.mem_alloc(pinned.nbytes)
        self._cleanup.callback(on_gpu.free)
        self._context.set_tensor_address(name, int(on_gpu))
        return pinned, on_gpu

    def _run_part(self, inputs: Arrays) -> Arrays:
        shapes = {name: array.shape for name, array in inputs.items()}
        if shapes != self._shapes:
            # A graph belongs to the shapes of its context: TensorRT does not say what it does after they change.
            self._forget_graph()
            self._shapes, self._runs_of_shapes = {}, 0
            for name, shape in shapes.items():
                self._set_input_shape(name, shape)
            self._shapes = shapes
        for name, array in inputs.items():
            self._used(name)[:] = array.ravel()
        # In the first run of some shapes TensorRT does what it does only once, which must not be captured.
        if self._captures and self._runs_of_shapes == 1:
            self._graph = captured(self._stream.handle, self._enqueue)
        if self._graph is None or not self._graph.launch(self._stream.handle):
            self._enqueue()
        self._stream.synchronize()
        self._runs_of_shapes += 1
        return {name: np.array(self._used(name)).reshape(self._shape_of(name)) for name in self._outputs}

    def _set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            raise ExecutionError(f"TensorRT refuses {name} {shape}: {self._logger.reason()}")

    def _shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, now that all inputs have theirs."""
        return self._shapes[name] if name in self._shapes else tuple(self._context.get_tensor_shape(name))

    def _used(self, name: str) -> Any:
        """The part of a tensor's place in the CPU's memory that this run uses."""
        return self._host[name][: math.prod(self._shape_of(name))]

    def _enqueue(self) -> None:
        """Put the copies and the engine's work into the stream."""
        for name in self._profile:
            self._cuda.memcpy_htod_async(self._on_gpu[name], self._used(name), self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise ExecutionError(f"TensorRT failed on {self._shapes}: {self._logger.reason()}")
        for name in self._outputs:
            self._cuda.memcpy_dtoh_async(self._used(name), self._on_gpu[name], self._stream)

    def _forget_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph = None

    def _forget_stream(self) -> None:
        self._stream.synchronize()
        self._stream = None

    def _forget_engine(self) -> None:
        self._context = None
        self._engine = None
        self._runtime = None


@cache
def _primary_context(gpu: int) -> Any:
    """The GPU's primary context, kept for the life of the process.

    pycuda's ``detach`` would leave a context behind on the thread's stack of them.
    """
    cuda = require("pycuda.driver", "pycuda")
    cuda.init()
    return cuda.Device(gpu).retain_primary_context()
