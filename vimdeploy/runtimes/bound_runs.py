"""Runs of ONNX Runtime on arrays that stay where they are: in a GPU's memory, and at the addresses of a CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from vimdeploy.runtimes.base import Arrays
from vimdeploy.runtimes.runs import run_bound, shapes_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, OrtValue

_MOST_GRAPHS = 8
"""Shapes that get a graph: more than the batch sizes that a busy server mostly sees."""
_NO_GRAPH = -1
"""ONNX Runtime's word for a run that is not captured."""


class _Captured(NamedTuple):
    """The places of inputs and outputs of some shapes, which their graph reads and writes."""

    number: int
    inputs: Mapping[str, OrtValue]
    binding: IOBinding


class CapturedRuns:
    """Runs of a session that captures CUDA graphs, one for each of the first shapes that its inputs have.

    ONNX Runtime keeps a graph with the thread that captured it, so one thread makes all runs, and callers wait.
    """

    def __init__(self, session: InferenceSession, outputs: Sequence[str], device: str, index: int) -> None:
        """Nothing is captured yet.

        Args:
            session: ONNX Runtime's.
            outputs: their names.
            device: ONNX Runtime's name of it, ``cuda``.
            index: its number.
        """
        self._session, self._outputs = session, outputs
        self._device = device, index
        self._captured: dict[object, _Captured] = {}
        self._thread = ThreadPoolExecutor(1, "cuda-graphs")

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, from the graph of these shapes if there is one.

        Args:
            inputs: an array for each input, by name.

        Raises:
            ExecutionError: if ONNX Runtime gives up.
        """
        return self._thread.submit(self._run, inputs).result()

    def _run(self, inputs: Arrays) -> Arrays:
        shapes = frozenset((name, array.shape) for name, array in inputs.items())
        captured = self._captured.get(shapes)
        if captured is None:
            captured = self._first_run(inputs)
            if captured.number != _NO_GRAPH:
                self._captured[shapes] = captured
        else:
            for name, array in inputs.items():
                captured.inputs[name].update_inplace(array)
            run_bound(self._session, captured.binding, shapes_of(inputs), captured.number)
        return dict(zip(self._outputs, captured.binding.copy_outputs_to_cpu(), strict=True))

    def _first_run(self, inputs: Arrays) -> _Captured:
        """A run that is not captured, which finds places for the outputs; the graphs of later ones write there."""
        import onnxruntime as ort

        number = len(self._captured) if len(self._captured) < _MOST_GRAPHS else _NO_GRAPH
        binding, values = self._session.io_binding(), {}
        for name, array in inputs.items():
            value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, *self._device)
            value.update_inplace(array)
            binding.bind_ortvalue_input(name, value)
            values[name] = value
        for name in self._outputs:
            binding.bind_output(name, *self._device)
        run_bound(self._session, binding, shapes_of(inputs), _NO_GRAPH)
        for name, place in zip(self._outputs, binding.get_outputs(), strict=True):
            binding.bind_ortvalue_output(name, place)
        return _Captured(number, values, binding)
