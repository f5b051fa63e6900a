"""Runs of ONNX Runtime on a GPU whose inputs and outputs stay there, or lie where a CUDA graph expects them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from vimdeploy.errors import InputError
from vimdeploy.gpu import current
from vimdeploy.runtimes.base import Array, Arrays
from vimdeploy.runtimes.cuda_streams import copy_on_gpu, synchronize
from vimdeploy.runtimes.gpu_arrays import GpuArray, gpu_array_of
from vimdeploy.runtimes.runs import run_bound, shapes_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, OrtValue

_T = TypeVar("_T")

_MEMORY = "cuda"
"""ONNX Runtime's name of the memory that everything here lies in."""
_MOST_GRAPHS = 8
"""Shapes that get a graph: more than the batch sizes that a busy server mostly sees."""
_NO_GRAPH = -1
"""ONNX Runtime's word for a run that is not captured."""


def run_on_gpu(
    session: InferenceSession,
    outputs: Sequence[str],
    inputs: Mapping[str, GpuArray],
    take: Callable[[str, OrtValue], _T],
    waits: bool = True,
) -> dict[str, _T]:
    """Run a session on arrays in its GPU's memory.

    Args:
        session: ONNX Runtime's, which captures no graphs.
        outputs: their names.
        inputs: by name; whatever writes them is done, or in the session's stream.
        take: is given the name of each output and its place, which is ONNX Runtime's, and free again after that.
        waits: whether the run is done when ``take`` is called, or in the session's stream.

    Returns:
        What ``take`` gives, by name.

    Raises:
        ExecutionError: if ONNX Runtime gives up.
    """
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, _MEMORY, array.gpu, array.dtype.type, array.shape, array.address)
    for name in outputs:
        binding.bind_output(name, _MEMORY, next(iter(inputs.values())).gpu)
    run_bound(session, binding, shapes_of(inputs), waits=waits)
    return {name: take(name, value) for name, value in zip(outputs, binding.get_outputs(), strict=True)}


class Copies:
    """What a call gives ONNX Runtime and takes from it: copies within a GPU's memory, in one stream.

    Outputs are copied, because ONNX Runtime uses their memory again without knowing who still reads there.
    """

    def __init__(
        self,
        inputs: Mapping[str, GpuArray],
        outputs: Mapping[str, Any],
        types: Mapping[str, str],
        make: Callable[[tuple[int, ...], np.dtype[Any]], Any],
        gpu: int,
        stream: int,
        waits: bool,
    ) -> None:
        """Nothing is copied yet.

        Args:
            inputs: by name.
            outputs: arrays of any library that some are to be copied to, by name.
            types: numpy's names of the types of all outputs, by name.
            make: gives an array of a shape and a type for an output that has none.
            gpu: CUDA's number of it.
            stream: the handle of the one to copy in.
            waits: whether an output is there once it was taken.
        """
        self._inputs, self._outputs, self._types, self._make = inputs, outputs, types, make
        self._gpu, self._stream, self._waits = gpu, stream, waits

    def give(self, name: str, place: OrtValue) -> None:
        """Copy an input to its place."""
        with current(self._gpu):
            copy_on_gpu(place.data_ptr(), self._inputs[name].address, self._inputs[name].nbytes, self._stream)
            synchronize(self._stream)

    def take(self, name: str, place: OrtValue) -> Any:
        """An output, copied from its place.

        Raises:
            InputError: if the array for it is of another shape or type.
        """
        shape, dtype = tuple(place.shape()), np.dtype(self._types[name])
        with current(self._gpu):
            output = self._outputs[name] if name in self._outputs else self._make(shape, dtype)
            to = gpu_array_of(output, self._gpu, self._stream)
            if (to.shape, to.dtype) != (shape, dtype):
                raise InputError(f"Wanted {name} {shape} of {dtype}, found {to.shape} of {to.dtype}.")
            copy_on_gpu(to.address, place.data_ptr(), to.nbytes, self._stream)
            if self._waits:
                synchronize(self._stream)
        return output


class _Places(NamedTuple):
    """Where the inputs and outputs of some shapes lie, for their graph."""

    graph: int
    inputs: Mapping[str, OrtValue]
    outputs: Mapping[str, OrtValue]
    binding: IOBinding


class CapturedRuns:
    """Runs of a session that captures CUDA graphs, one for each of the first shapes that its inputs have.

    ONNX Runtime keeps a graph with the thread that captured it, so one thread makes all runs, and callers wait.
    """

    def __init__(self, session: InferenceSession, outputs: Sequence[str], gpu: int) -> None:
        """Nothing is captured yet.

        Args:
            session: ONNX Runtime's.
            outputs: their names.
            gpu: ONNX Runtime's number of the session's device.
        """
        self._session, self._outputs, self._gpu = session, outputs, gpu
        self._places: dict[object, _Places] = {}
        self._thread = ThreadPoolExecutor(1, "cuda-graphs")

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs of arrays in the CPU's memory.

        Args:
            inputs: an array for each input, by name.

        Raises:
            ExecutionError: if ONNX Runtime gives up.
        """
        return self.run_by(
            inputs, lambda name, place: place.update_inplace(inputs[name]), lambda name, place: np.array(place.numpy())
        )

    def run_by(
        self,
        inputs: Mapping[str, Array | GpuArray],
        give: Callable[[str, OrtValue], None],
        take: Callable[[str, OrtValue], _T],
    ) -> dict[str, _T]:
        """Run on copies of inputs, by the graph of their shapes if there is one.

        Args:
            inputs: by name; of these, the shapes and types.
            give: copies an input to its place, and waits until it is there.
            take: copies an output from its place, and waits until it has it.

        Returns:
            What ``take`` gives, by name.

        Raises:
            ExecutionError: if ONNX Runtime gives up.
        """
        return self._thread.submit(self._run, inputs, give, take).result()

    def _run(
        self,
        inputs: Mapping[str, Array | GpuArray],
        give: Callable[[str, OrtValue], None],
        take: Callable[[str, OrtValue], _T],
    ) -> dict[str, _T]:
        with current(self._gpu):
            places = self._after_run(inputs, give)
            return {name: take(name, place) for name, place in places.outputs.items()}

    def _after_run(self, inputs: Mapping[str, Array | GpuArray], give: Callable[[str, OrtValue], None]) -> _Places:
        shapes = frozenset((name, tuple(array.shape)) for name, array in inputs.items())
        places = self._places.get(shapes)
        if places is None:
            places = self._first_run(inputs, give)
            if places.graph != _NO_GRAPH:
                self._places[shapes] = places
        else:
            for name, place in places.inputs.items():
                give(name, place)
            run_bound(self._session, places.binding, shapes_of(inputs), places.graph)
        return places

    def _first_run(self, inputs: Mapping[str, Array | GpuArray], give: Callable[[str, OrtValue], None]) -> _Places:
        """A run that is not captured, for which ONNX Runtime finds places of the outputs; graphs write there again."""
        import onnxruntime as ort

        graph = len(self._places) if len(self._places) < _MOST_GRAPHS else _NO_GRAPH
        binding, places = self._session.io_binding(), {}
        for name, array in inputs.items():
            place = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, _MEMORY, self._gpu)
            give(name, place)
            binding.bind_ortvalue_input(name, place)
            places[name] = place
        for name in self._outputs:
            binding.bind_output(name, _MEMORY, self._gpu)
        run_bound(self._session, binding, shapes_of(inputs), _NO_GRAPH)
        outputs = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        for name, place in outputs.items():
            binding.bind_ortvalue_output(name, place)
        return _Places(graph, places, outputs, binding)
