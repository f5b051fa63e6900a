"""An artifact of any kind, ready to be called again and again on the same input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vimdeploy.bench.eager import eager_session
from vimdeploy.bench.kinds import Kind
from vimdeploy.bench.subjects import Settings, Subject
from vimdeploy.errors import ConfigError, ExecutionError, InputError, ModelFileError, first_line
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session

_TYPES = {"tensor(float)": ("fp32", np.float32), "tensor(float16)": ("fp16", np.float16)}
"""Of inputs: the precision that they tell, and numpy's type."""


@dataclass(frozen=True)
class Opened:
    """A loaded artifact."""

    run: Callable[[FloatArray], object]
    """From an array to logits, both in the host's memory."""
    shape: tuple[int, ...]
    """Of the input, the batch included."""
    dtype: type
    image_size: tuple[int, int]
    """Height and width in pixels; of shapes (B, C, H, W) and (B, H, W, C) alike."""
    device: str
    operators: str
    """What computes our operators; empty where a model has none."""
    precision: str

    def random_input(self) -> FloatArray:
        """Values around 0 as pictures have after preprocessing; the same in every process."""
        generator = np.random.default_rng(0)
        array: FloatArray = generator.standard_normal(self.shape, dtype=np.float32).astype(self.dtype, copy=False)
        return array


def open_subject(subject: Subject, kind: Kind, settings: Settings) -> Opened:
    """Load an artifact.

    Args:
        subject: what to load.
        kind: of its file.
        settings: of these the device, the operators and the threads, as far as they are for such a file.

    Raises:
        VimdeployError: where it cannot be loaded, or does not take the batch or the image size.
    """
    opened = (
        _open_foreign(subject, settings) if kind == "foreign" else _opened(_session(subject, kind, settings), subject)
    )
    if subject.image_size not in (None, opened.image_size):
        (height, width), (wanted_height, wanted_width) = opened.image_size, subject.image_size or (0, 0)
        raise InputError(
            f"Wanted an image size of {wanted_height}x{wanted_width}, the file takes {height}x{width} alone; "
            "give the name of a variant instead, which is exported at every size."
        )
    return opened


def _session(subject: Subject, kind: Kind, settings: Settings) -> Session:
    import vimdeploy

    if kind == "engine":
        return vimdeploy.load(subject.path, device=settings.device, allow_engine_code=settings.allow_engine_code)
    if kind == "ours":
        return vimdeploy.load(
            subject.path, device=settings.device, threads=settings.threads, operators=settings.operators
        )
    if settings.device == "cuda":
        raise ConfigError("PyTorch is measured on the CPU: device must be auto or cpu, found 'cuda'.")
    return eager_session(subject.path, subject.image_size, settings.variant, settings.threads)


def _opened(session: Session, subject: Subject) -> Opened:
    config = session.info.config
    return Opened(
        run=session.run,
        shape=(subject.batch, config.in_channels, *config.image_size),
        dtype=np.float32,
        image_size=config.image_size,
        device=session.device,
        operators=session.operators,
        precision=session.info.precision,
    )


def _open_foreign(subject: Subject, settings: Settings) -> Opened:
    from vimdeploy.runtimes.onnxruntime import open_model

    session, device, _ = open_model(
        subject.path, device=settings.device, threads=settings.threads, operators=settings.operators
    )
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
        found = ", ".join(f"{value.name} {value.shape} of {value.type}" for value in inputs)
        raise ModelFileError(f"Wanted a model with one input, four-dimensional pictures of floats; found {found}.")
    shape, image_size = _fixed_shape(inputs[0].shape, subject)
    precision, dtype = _TYPES[inputs[0].type]
    name, output = inputs[0].name, session.get_outputs()[0].name

    def run(array: FloatArray) -> object:
        try:
            return session.run([output], {name: array})
        except Exception as error:
            raise ExecutionError(f"ONNX Runtime failed on a batch of {len(array)}: {first_line(error)}") from error

    return Opened(run, shape, dtype, image_size, device, operators="", precision=precision)


def _fixed_shape(declared: list[int | str | None], subject: Subject) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The shape of an input with numbers for all that a model leaves open, and the image size in it."""
    batch, *picture = declared
    if isinstance(batch, int) and batch != subject.batch:
        raise InputError(f"Wanted a batch of {subject.batch}, the model takes {batch} alone.")
    sides = slice(0, 2) if picture[2] in (1, 3) else slice(1, 3)
    channels = picture[2] if picture[2] in (1, 3) else picture[0]
    height, width = (
        side if isinstance(side, int) else asked
        for side, asked in zip(picture[sides], subject.image_size or (None, None), strict=True)
    )
    if height is None or width is None:
        raise InputError("The model takes pictures of any size; say which with --image-size.")
    if not isinstance(channels, int):
        raise InputError(f"The model does not say how many channels its pictures {declared} have.")
    picture[sides] = height, width
    return (subject.batch, *(channels if not isinstance(size, int) else size for size in picture)), (height, width)
