"""torch's exporter, and which line of somebody's model it stumbled on."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import vimdeploy.torch_module
from vimdeploy.errors import ConfigError
from vimdeploy.model_info import SizeRange
from vimdeploy.ops.detection_ops import translations
from vimdeploy.text import shortened
from vimdeploy.user_code import place_of, place_within

_SHAPES = "torch.fx.experimental.symbolic_shapes"
"""The logger that tells when a free dimension is fixed, while the line that fixes it runs."""
_ADVICE = re.compile(r"\n+(?:consider using data-dependent|Caused by: |For more information|The error above occurred)")
"""What torch's messages go on with behind their reason."""


class TracingError(ConfigError):
    """A module that torch cannot trace as it was asked to."""

    def __init__(self, message: str, reason: str, sizes: Mapping[str, SizeRange] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """The clause of the message that says why."""
        self.sizes = sizes or {}
        """The sizes that the module takes in free dimensions that were to have others too, by their words."""


def traced(
    model: nn.Module,
    examples: Sequence[Tensor],
    free: Sequence[Mapping[int, Any]],
    names: tuple[Sequence[str], Sequence[str]],
    opset: int,
) -> torch.onnx.ONNXProgram:
    """Trace a module by running it.

    Args:
        model: takes and gives tensors.
        examples: to run it on.
        free: ``torch.export.Dim`` of the free axes of each input.
        names: of the inputs and of the outputs.
        opset: of the ONNX standard.

    Raises:
        TracingError: if the module computes with free dimensions as if they were fixed, or asks for values.
    """
    is_flat = isinstance(model, vimdeploy.torch_module.FlatModule)
    with contextlib.ExitStack() as watched:
        watched.enter_context(quiet())
        failed = watched.enter_context(_first_error()) if is_flat else []
        lines = watched.enter_context(_fixing_lines())
        try:
            program = torch.onnx.export(
                model,
                tuple(examples),
                dynamo=True,
                dynamic_shapes=(tuple(free),) if is_flat else tuple(free),
                input_names=list(names[0]),
                output_names=list(names[1]),
                opset_version=opset,
                custom_translation_table=translations(),
                verbose=False,
            )
        except Exception as error:  # torch's, and whatever somebody's forward raises
            if not is_flat:
                raise
            raise _tracing_error(failed[0] if failed else _first_cause(error), lines.told()) from error
    assert program is not None  # dynamo=True always gives one
    return program


def _first_cause(error: BaseException) -> BaseException:
    """What torch's exporter wraps in advice: such as an operator that ONNX does not have."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _tracing_error(error: BaseException, lines: Sequence[str]) -> TracingError:
    fixed = re.findall(r"Constraints violated \(([^)]*)\)", str(error))
    if fixed:
        words, by = fixed[0].split(", "), lines[0] if lines else "a line that torch does not tell"
        why = f"{' and '.join(words)} {'is' if len(words) == 1 else 'are'} fixed by {by}"
        return TracingError(f"The model cannot be traced with free dimensions: {why}.", why, _sizes(str(error)))
    place, reason = place_of(error), shortened(_ADVICE.split(str(error))[0]).rstrip(".")
    why = f"{type(error).__name__}: {reason}" + (f" ({place})" if place else "")
    return TracingError(f"The model cannot be traced: {why}.", why)


def _sizes(message: str) -> dict[str, SizeRange]:
    """The sizes that torch suggests for free dimensions: ``height = Dim('height', min=4)``, ``height = 8*_height``."""
    fixes = dict(re.findall(r"^ *(\w+) = (.+)$", message.partition("Suggested fixes:")[2], re.MULTILINE))
    sizes = {}
    for word, fix in fixes.items():
        times = re.fullmatch(r"(\d+)\*(\w+)", fix)
        step, inner = (int(times[1]), fixes.get(times[2], "Dim('')")) if times else (1, fix)
        bounds = dict(re.findall(r"(min|max)=(\d+)", inner))
        if inner.startswith("Dim(") and not word.startswith("_"):
            most = step * int(bounds["max"]) if "max" in bounds else None
            sizes[word] = SizeRange(step * int(bounds.get("min", 1)), most, step)
    return sizes


@contextlib.contextmanager
def _first_error() -> Iterator[list[Exception]]:
    """torch's exporter tries again in other ways that say less, and take long: let the first error stand for all."""
    first: list[Exception] = []
    original = torch.export.export

    def export_once(*args: Any, **kwargs: Any) -> Any:
        if first:
            raise first[0]
        try:
            return original(*args, **kwargs)
        except Exception as error:
            first.append(error)
            raise

    torch.export.export = export_once
    try:
        yield first
    finally:
        torch.export.export = original


class _Lines(logging.Handler):
    """Notes in which line of somebody's code a free dimension is fixed."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.fixed: list[str] = []
        self.guarded: list[str] = []

    def told(self) -> list[str]:
        """The lines, the surest first."""
        return [*self.fixed, *self.guarded]

    def emit(self, record: logging.LogRecord) -> None:
        noted = self.fixed if "set_replacement" in record.msg else self.guarded if "guard added" in record.msg else None
        place = "" if noted is None else place_within(vimdeploy.torch_module.__file__)
        if noted is not None and place and place not in noted:
            noted.append(place)


@contextlib.contextmanager
def _fixing_lines() -> Iterator[_Lines]:
    """Note the lines that fix free dimensions."""
    logger, handler = logging.getLogger(_SHAPES), _Lines()
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.handlers, level, logger.propagate = before
        logger.setLevel(level)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's notes about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),  # half a graph, if the trace stops
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
