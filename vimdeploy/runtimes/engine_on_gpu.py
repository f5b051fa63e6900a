"""One engine on one GPU: its memory, its stream, its graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from vimdeploy.errors import ExecutionError, InputError, ModelFileError, first_line, require
from vimdeploy.flavors import collecting_logger
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.cuda_graph import CudaGraph, captured

_STREAM_NON_BLOCKING = 1
"""Of cuda.h: the stream does not wait for the default stream, on which others in the process may work."""


class EngineOnGpu:
    """A loaded engine of one input and one output, dynamic in its batch. Not for two threads at once.

    Buffers are made once, for the largest batch: in the GPU's memory, and pinned in the CPU's, so that copies are
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
            ModelFileError: where TensorRT refuses the plan.
            ExecutionError: where the GPU has not the memory, or CUDA fails.
        """
        self._cuda = require("pycuda.driver", "pycuda")
        self._primary = _primary_context(gpu)
        self._cleanup = contextlib.ExitStack()
        self._graph: CudaGraph | None = None
        self._runs_of_batch = 0
        self._batch = 0
        with self._current():
            try:
                self._load(trt, plan, allow_code)
            except BaseException:
                self._cleanup.close()
                raise

    def run(self, array: FloatArray) -> FloatArray:
        """The output, in float32.

        A batch beyond the engine's largest runs in parts of about equal size.

        Args:
            array: (B, C, H, W) float32.

        Raises:
            InputError: for a batch below the engine's smallest.
            ExecutionError: where TensorRT or CUDA fails.
        """
        parts = np.array_split(array, -(-len(array) // self._largest))
        if len(parts[-1]) < self._smallest:
            raise InputError(
                f"Wanted a batch of {self._smallest} to {self._largest} images or a multiple of that, found "
                f"{len(array)}; build the engine again with a smaller MIN in --batch."
            )
        with self._current():
            return np.concatenate([self._run_part(part) for part in parts])

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
            raise ExecutionError(f"CUDA failed: {first_line(error)}") from error

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
        # RTX compiles kernels for new shapes as they come, and captures its graphs itself, between those.
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
        self._input, output = sorted(names, key=lambda name: engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
        smallest, _, largest = engine.get_tensor_profile_shape(self._input, 0)
        self._smallest, self._largest = smallest[0], largest[0]
        classes = tuple(engine.get_tensor_shape(output))[1:]
        self._images, self._images_on_gpu = self._buffers(trt, self._input, tuple(largest))
        self._logits, self._logits_on_gpu = self._buffers(trt, output, (self._largest, *classes))
        self._stream = self._cuda.Stream(_STREAM_NON_BLOCKING)
        self._cleanup.callback(self._forget_stream)
        self._cleanup.callback(self._forget_graph)

    def _buffers(self, trt: ModuleType, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """A tensor's place in the CPU's memory, as an array, and in the GPU's, which the engine is told."""
        pinned = self._cuda.pagelocked_empty(shape, trt.nptype(self._engine.get_tensor_dtype(name)))
        self._cleanup.callback(pinned.base.free)
        on_gpu = self._cuda.mem_alloc(pinned.nbytes)
        self._cleanup.callback(on_gpu.free)
        self._context.set_tensor_address(name, int(on_gpu))
        return pinned, on_gpu

    def _run_part(self, array: FloatArray) -> FloatArray:
        batch = len(array)
        if batch != self._batch:
            # A graph is bound to its context's shape: TensorRT leaves open what an old one does after a change.
            self._forget_graph()
            self._batch, self._runs_of_batch = 0, 0
            if not self._context.set_input_shape(self._input, array.shape):
                raise ExecutionError(f"TensorRT refuses a batch of {batch}: {self._logger.reason()}")
            self._batch = batch
        self._images[:batch] = array
        # The first run of a shape settles what TensorRT does only once, and which must not be captured.
        if self._captures and self._runs_of_batch == 1:
            self._graph = captured(self._stream.handle, self._enqueue)
        if self._graph is None or not self._graph.launch(self._stream.handle):
            self._enqueue()
        self._stream.synchronize()
        self._runs_of_batch += 1
        return np.array(self._logits[:batch], dtype=np.float32)

    def _enqueue(self) -> None:
        """Put the copies and the engine's work into the stream."""
        self._cuda.memcpy_htod_async(self._images_on_gpu, self._images[: self._batch], self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise ExecutionError(f"TensorRT failed on a batch of {self._batch}: {self._logger.reason()}")
        self._cuda.memcpy_dtoh_async(self._logits[: self._batch], self._logits_on_gpu, self._stream)

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
