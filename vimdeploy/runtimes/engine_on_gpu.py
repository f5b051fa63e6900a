"""One engine on one GPU, which several threads run at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from vimdeploy.errors import ConfigError, ExecutionError, InputError, require
from vimdeploy.flavors import collecting_logger, deserialized
from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.engine_lane import Lane, LoadedEngine
from vimdeploy.runtimes.gpu_arrays import GpuArray, empty, gpu_array_of
from vimdeploy.runtimes.profiles import Profile, parts_of
from vimdeploy.text import reason_of

_LONGEST_RUN_S = 60
"""After so long, memory is given back although a run has not ended: its thread may be gone."""


class EngineOnGpu:
    """A loaded engine, dynamic in whatever its profiles say.

    Runs at the same time are in lanes of their own, each with a stream, buffers and working memory; a lane is made when
    all others are taken, up to a number, and then runs wait for each other.
    """

    def __init__(
        self,
        trt: ModuleType,
        plan: bytes,
        gpu: int,
        allow_code: bool,
        prepare: Callable[[Any], None] = lambda runtime: None,
        lanes: int = 2,
    ) -> None:
        """Load an engine.

        Args:
            trt: the flavour's module.
            plan: the engine.
            gpu: CUDA's number of the GPU.
            allow_code: whether code in the plan may run in this process.
            prepare: is called with TensorRT's runtime before it reads the plan, to give it the plugins.
            lanes: so many runs at the same time at most.

        Raises:
            ModelFileError: if TensorRT refuses the plan.
            ExecutionError: if the GPU is out of memory, or CUDA fails.
        """
        self._cuda = require("pycuda.driver", "pycuda")
        self._gpu, self._primary = gpu, _primary_context(gpu)
        self._most_lanes = lanes
        self._lanes: list[Lane] = []
        self._idle: list[Lane] = []
        self._changed = threading.Condition()
        self._is_closed = False
        with self._current(), contextlib.ExitStack() as undo:
            undo.callback(self._forget)
            self._load(trt, plan, allow_code, prepare)
            undo.pop_all()

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, in the types that the engine gives.

        A batch beyond the largest runs in parts of that size, and the rest; if that is below the smallest, the last row
        is repeated, and its answers are left out.

        Args:
            inputs: an array for each input, the batch first.

        Raises:
            InputError: for a shape that no profile of the engine has.
            ConfigError: if the engine was closed.
            ExecutionError: if TensorRT or CUDA fails.
        """
        parts = parts_of(self._profiles, {name: array.shape for name, array in inputs.items()})
        with self._current(), self._lane() as lane:
            found = [lane.run(part, inputs) for part in parts]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def run_on_gpu(
        self, take: Callable[[int], Mapping[str, GpuArray]], like: Any, outputs: Mapping[str, Any], stream: int | None
    ) -> dict[str, Any]:
        """As ``run``, of inputs that are in the GPU's memory, and outputs that stay there.

        Args:
            take: gives the inputs, ready for the stream whose handle it is given.
            like: one of the inputs as the caller has it: outputs that are made are of the same library.
            outputs: arrays to write, by name; the others are made.
            stream: the handle of the stream to run on, without waiting for it; None: one of the engine's, to its end.

        Raises:
            InputError: for a shape that no profile of the engine has; for an output that there is not, or of another
                shape or type.
            ConfigError: if the engine was closed.
            ExecutionError: if TensorRT or CUDA fails.
        """
        with self._current(), self._lane() as lane:
            handle = lane.stream.handle if stream is None else stream
            inputs = take(handle)
            parts = parts_of(self._profiles, {name: array.shape for name, array in inputs.items()})
            batch, shapes = parts[-1].start + parts[-1].rows, lane.shapes(parts[0], inputs)
            wanted = {name: ((batch, *shapes[name][1:]), self._loaded.dtype(name)) for name in self._loaded.outputs}
            if not outputs.keys() <= wanted.keys():
                raise InputError(f"Wanted outputs among {', '.join(wanted)}; found {', '.join(outputs)}.")
            made = {
                name: outputs[name] if name in outputs else empty(like, *shape_and_type, self._gpu, stream)
                for name, shape_and_type in wanted.items()
            }
            targets = {name: gpu_array_of(value, self._gpu, handle) for name, value in made.items()}
            for name, array in targets.items():
                if (array.shape, array.dtype) != wanted[name]:
                    shape, dtype = wanted[name]
                    raise InputError(f"Wanted {name} {shape} of {dtype}, found {array.shape} of {array.dtype}.")
            lane.run_on_gpu(parts, inputs, targets, stream)
        return made

    def close(self) -> None:
        """Give back all memory, in the order in which one thing needs the other; a second call does nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == len(self._lanes), _LONGEST_RUN_S)
        with contextlib.suppress(ExecutionError), self._current():
            self._forget()

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
        self._runtime, engine = deserialized(trt, plan, logger, allow_code, prepare)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = tuple(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
        outputs = tuple(name for name in names if name not in inputs)
        self._profiles = tuple(_profile(engine, inputs, index) for index in range(engine.num_optimization_profiles))
        self._loaded = LoadedEngine(trt, self._cuda, engine, logger, inputs, outputs, self._profiles)
        first = self._new_lane()
        self._idle.append(first)
        self.bytes_per_lane = first.gpu_bytes
        """What each lane takes of the GPU's memory, beside what TensorRT takes for itself."""

    def _new_lane(self) -> Lane:
        lane = Lane(self._loaded)
        self._lanes.append(lane)
        return lane

    @contextlib.contextmanager
    def _lane(self) -> Iterator[Lane]:
        """A lane that nobody uses."""
        with self._changed:
            lane = self._taken()
        try:
            yield lane
        finally:
            with self._changed:
                self._idle.append(lane)
                self._changed.notify()

    def _taken(self) -> Lane:
        while not self._is_closed:
            if self._idle:
                return self._idle.pop()
            if len(self._lanes) < self._most_lanes:
                try:
                    return self._new_lane()
                except (ExecutionError, self._cuda.Error):  # the GPU has no memory for another
                    self._most_lanes = len(self._lanes)
            else:
                self._changed.wait()
        raise ConfigError("The session was closed; open the engine again.")

    def _forget(self) -> None:
        """Free the lanes, then the engine, then its runtime."""
        self._idle.clear()
        while self._lanes:
            self._lanes.pop().close()
        for name in ("_loaded", "_runtime"):
            vars(self).pop(name, None)


def _profile(engine: Any, inputs: Sequence[str], index: int) -> Profile:
    bounds = {name: engine.get_tensor_profile_shape(name, index) for name in inputs}
    smallest, best, largest = ({name: tuple(bounds[name][which]) for name in inputs} for which in range(3))
    return Profile(index, smallest, best, largest)


@cache
def _primary_context(gpu: int) -> Any:
    """The GPU's primary context, kept for the life of the process.

    pycuda's ``detach`` would leave a context behind on the thread's stack of them.
    """
    cuda = require("pycuda.driver", "pycuda")
    cuda.init()
    return cuda.Device(gpu).retain_primary_context()
