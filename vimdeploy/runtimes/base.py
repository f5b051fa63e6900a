"""The face of every runtime: ``Session``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, cast, overload

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError, ImageError, InputError
from vimdeploy.gpu import device_of
from vimdeploy.inputs import picture_windows, stacked
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.preprocess import FloatArray, Picture, Placement
from vimdeploy.progress import Progress, silent
from vimdeploy.runtimes.cuda_streams import stream_handle
from vimdeploy.runtimes.gpu_arrays import GpuArray, gpu_array_of, is_on_gpu
from vimdeploy.tasks import task_of
from vimdeploy.tasks.base import Answer, Task

if TYPE_CHECKING:
    from typing_extensions import Self

BATCH = 8
"""How many pictures run together, if nobody says."""
VALUES = BATCH * 3 * 224 * 224
"""More at once take memory on a CPU, and no less time."""
Array = npt.NDArray[Any]
Arrays = dict[str, Array]
"""By the names of inputs or outputs; the first axis of each is the batch."""


class Stages(ABC):
    """The inner values of a model, under the names of its ``StageSpec``s; all float32."""

    names: frozenset[str]
    """The stages whose values it gives."""

    @abstractmethod
    def values(
        self, inputs: Mapping[str, Array], chosen: Mapping[str, FloatArray] | None = None
    ) -> Mapping[str, FloatArray]:
        """The value of every stage, computed from the inputs on.

        Args:
            inputs: of the model.
            chosen: another model's values of stages that are handed on, which those behind compute from; or none.
        """

    def values_apart(self, inputs: Mapping[str, Array], fed: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
        """The value of every stage, each computed from another model's values; empty if that cannot be done.

        Args:
            inputs: of the model.
            fed: a value for each of ``names``.
        """
        return {}


def check_threads(threads: int | None) -> None:
    """Refuse numbers of threads that no machine has.

    Raises:
        ConfigError: if it is not from 1 to 1024, or None.
    """
    if threads is not None and not 1 <= threads <= 1024:
        raise ConfigError(f"threads must be from 1 to 1024, found {threads}.")


class Session(ABC):
    """A model, loaded and ready to run; a context manager."""

    runtime: ClassVar[str] = ""
    """The runtime's name, for people."""
    info: ModelInfo
    """What the model says of itself."""
    device: str
    """Where it runs: ``cpu``, ``cuda``, ``cuda:1``."""
    is_shared: ClassVar[bool] = False
    """Whether several threads may run it at once; one that has a single thread then computes on those of its callers.
    """
    operators: str
    """What computes our operators: ``library``, ``plugin``, ``function body`` or ``eager``; empty if it has none."""

    @property
    def runs_on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @property
    def description(self) -> str:
        """The session in a few words, for reports: ``ONNX Runtime (library, cpu)``."""
        how = ", ".join(part for part in (self.operators, self.device) if part)
        return f"{self.runtime or type(self).__name__} ({how})"

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.info.inputs, self.info.outputs))
        return (
            f"<{self.description}: {self.info.name}, {self.info.task or 'no task'}, {self.info.precision}; "
            f"{inputs} -> {outputs}>"
        )

    def run(
        self, inputs: Any | Mapping[str, Any], *, outputs: Any | Mapping[str, Any] = None, stream: Any = None
    ) -> dict[str, Any]:
        """Run the model; if it takes one batch alone, in parts of that size.

        What is in the memory of the session's GPU stays there: tensors of PyTorch, and arrays of CuPy, Numba, JAX and
        others that have DLPack or ``__cuda_array_interface__``. Their outputs are there too: tensors if PyTorch's were
        given, else ``GpuArray``s, which those libraries take without a copy.

        Args:
            inputs: an array for each input, by name; or the array itself if there is one input. Preprocessed: pictures
                as they are go to ``predict``. Tensors of torch are taken too.
            outputs: of inputs on the GPU: contiguous arrays there that are to be written, by name, or the array itself
                if there is one output; None, or those that are not named: they are made.
            stream: of inputs on the GPU: the CUDA stream that the work is put into, as an object of one of those
                libraries or its handle; the call does not wait for it, and what it reads and writes must be kept until
                it is done. None: the call waits.

        Returns:
            An array for each output, by name.

        Raises:
            InputError: if an input is missing, unknown, elsewhere, or of another shape or type.
            ExecutionError: if the runtime gives up.
        """
        named = _named(inputs, self.info.inputs)
        there = [name for name, value in named.items() if self.runs_on_gpu and is_on_gpu(value)]
        if there and len(there) == len(named):
            written = {} if outputs is None else _named(outputs, self.info.outputs)
            return self._run_on_gpu(named, written, None if stream is None else stream_handle(stream))
        if there:
            raise InputError(f"Wanted all inputs on the GPU or none; {', '.join(there)} is there, the others are not.")
        if outputs is not None or stream is not None:
            raise InputError("outputs and stream are for inputs that are on the GPU of the session.")
        arrays = {name: _array(value) for name, value in named.items()}
        batch, rows = self.info.fixed_batch, min((len(array) for array in arrays.values() if array.ndim), default=0)
        if batch is None or rows in (0, batch):
            return self._run(self._checked(arrays))
        found = [
            self._run(self._checked({name: _part(array, start, batch) for name, array in arrays.items()}))
            for start in range(0, rows, batch)
        ]
        return {name: _joined([part[name] for part in found])[:rows] for name in found[0]}

    def _run_on_gpu(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int | None) -> dict[str, Any]:
        """As ``run``, of inputs that are on a GPU."""
        raise InputError(f"{self.description} takes arrays in the CPU's memory.")

    def _taken(self, inputs: Mapping[str, Any], stream: int) -> dict[str, GpuArray]:
        """Inputs on the GPU, checked, and ready for a stream."""
        gpu = device_of(self.device).index
        arrays = {name: gpu_array_of(value, gpu, stream) for name, value in inputs.items()}
        self.info.check_shapes(
            {name: array.shape for name, array in arrays.items()},
            {name: str(array.dtype) for name, array in arrays.items()},
        )
        return arrays

    def _checked(self, arrays: Arrays) -> Arrays:
        """Arrays for ``_run``."""
        self.info.check_shapes(
            {name: array.shape for name, array in arrays.items()},
            {name: str(array.dtype) for name, array in arrays.items()},
        )
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @overload
    def predict(
        self,
        images: Picture,
        image_size: tuple[int, int] | None = None,
        batch: int | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Answer: ...

    @overload
    def predict(
        self,
        images: Sequence[Picture],
        image_size: tuple[int, int] | None = None,
        batch: int | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Answer]: ...

    def predict(
        self,
        images: Picture | Sequence[Picture],
        image_size: tuple[int, int] | None = None,
        batch: int | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Answer | list[Answer]:
        """Pictures to answers, prepared by the recipe that the model carries.

        Args:
            images: one picture or a sequence of them: paths, picture files or their bytes, PIL images, or arrays or
                torch tensors (H, W, C) or (H, W) of uint8.
            image_size: height and width in pixels: of what the model is given, if the file leaves it open; of the
                resized picture, if windows slide over it. None: as the file's recipe has it; a recipe that crops leaves
                each picture its own size, rounded to the nearest that the model takes, if the file leaves it open.
            batch: how many pictures or windows of one size run together; None: 8, or on a CPU as many as have no more
                pixels than 8 of 224x224, one at least.
            score_threshold: of the task detect: what is found has a higher score, from 0 to below 1; None: 0.05.
            max_detections: of the task detect: at most so many are found in a picture, the best; None: 100.

        Returns:
            The answer to the one picture, or a list of answers.

        Raises:
            ImageError: if a picture cannot be read; names it.
            InputError: if the model does not take pictures, or none of that size.
            ConfigError: if the file does not say what its outputs mean, or for a batch of none.
            ExecutionError: if the runtime gives up.
        """
        several = isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray, memoryview))
        pictures = cast("Sequence[Picture]", images if several else [images])
        answers = list(self._answers(pictures, image_size, batch, score_threshold, max_detections))
        return answers if several else answers[0]

    def predict_each(
        self,
        images: Sequence[Picture],
        image_size: tuple[int, int] | None = None,
        batch: int | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        progress: Progress = silent,
    ) -> Iterator[Answer | ImageError]:
        """The answer to each picture in their order, as soon as it is there; all else as of ``predict``.

        Args:
            images: pictures.
            image_size: height and width in pixels.
            batch: how many pictures or windows run together.
            score_threshold: of the task detect.
            max_detections: of the task detect.
            progress: is told of the windows of a picture that has several.

        Yields:
            The answer; the reason if the picture cannot be read, which does not cost the others theirs.
        """
        errors: dict[int, ImageError] = {}
        answers = self._answers(images, image_size, batch, score_threshold, max_detections, errors, progress)
        number = 0
        for answer in answers:
            while number in errors:  # of pictures before
                yield errors[number]
                number += 1
            yield answer
            number += 1
        yield from (errors[left] for left in range(number, len(images)))

    def _answers(
        self,
        images: Sequence[Picture],
        image_size: tuple[int, int] | None,
        batch: int | None,
        score_threshold: float | None,
        max_detections: int | None,
        errors: dict[int, ImageError] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Answer]:
        """The answer to each picture that can be read; the others' numbers and reasons go to ``errors``."""
        limits = self.task().limits(score_threshold, max_detections)
        return self.answers(picture_windows(images, self.info, image_size, limits, errors, progress), batch)

    def answers(self, windows: Iterable[tuple[Arrays, Placement]], batch: int | None = None) -> Iterator[Answer]:
        """The answer to each picture, from windows that are prepared.

        Args:
            windows: as of ``inputs.picture_windows``.
            batch: how many run together; None as of ``predict``.

        Raises:
            ConfigError: if the file does not say what its outputs mean, or for a batch of none.
            ExecutionError: if the runtime gives up.
        """
        task = self.task()
        if batch is not None and (not isinstance(batch, Integral) or batch < 1):
            raise ConfigError(f"batch must be a whole number of at least 1, found {batch!r}.")
        several = stacked(windows, batch or BATCH, self.most_values if batch is None else math.inf)
        return task.gathered(((self.run(arrays), placements) for arrays, placements in several), self.info)

    @property
    def most_values(self) -> float:
        """So many values of inputs run together at most, if nobody says how many pictures do."""
        return VALUES if self.device == "cpu" else math.inf

    def task(self) -> Task:
        """What the model is for.

        Raises:
            ConfigError: if the file does not say.
        """
        task = task_of(self.info)
        if task is None:
            raise ConfigError(
                f"{self.info.name} does not say what its outputs mean; vimdeploy.load(FILE).run(arrays) gives them raw."
            )
        return task

    def open_stages(self) -> Stages:
        """The inner values of the same model, computed as this session computes them.

        Raises:
            ConfigError: if they cannot be had: says why.
        """
        raise ConfigError(f"{self.description} gives its outputs alone, no stages")

    def on_one_thread(self) -> Session | None:
        """The same session on one thread of the CPU; None if it runs on none."""
        return None

    def close(self) -> None:  # noqa: B027  # most sessions hold nothing but memory
        """Give back what the session holds; it cannot run any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays:
        """As ``run``, on arrays that were checked and are contiguous."""


def _named(given: Any | Mapping[str, Any], specs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    """Arrays by name; one without a name is the first."""
    return given if isinstance(given, Mapping) else {specs[0].name: given}


def _part(array: Array, start: int, batch: int) -> Array:
    """So many rows of an array from one on; its last row is repeated if there are too few."""
    rows = np.minimum(np.arange(start, start + batch), len(array) - 1)
    return array[rows]


def _joined(parts: Sequence[Array]) -> Array:
    """Outputs of several batches as one; with zeros behind those of fewer detections than another has."""
    most = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    return np.concatenate(
        [
            np.pad(part, [(0, 0), *((0, wanted - size) for wanted, size in zip(most, part.shape[1:], strict=True))])
            for part in parts
        ]
    )


def _array(value: Any) -> Array:
    """What was given for an input, as numpy has it."""
    if hasattr(value, "detach"):  # a tensor of torch
        try:
            value = value.detach().cpu().numpy()
        except TypeError as error:  # numpy has no bfloat16
            raise InputError(f"Wanted a type that numpy has, found {value.dtype}; convert it first.") from error
    if not isinstance(value, np.ndarray):
        raise InputError(
            f"Wanted arrays of numpy or tensors of torch, found {type(value).__name__}; pictures go to predict()."
        )
    return value
