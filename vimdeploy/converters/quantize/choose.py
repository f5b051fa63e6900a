"""Which layers of a model become int8, by a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching

import onnx
from onnx import helper

from vimdeploy.artifact import INT8, ModelInfo
from vimdeploy.converters.quantize.answers import Classes, Pictures, Runner, points_lost
from vimdeploy.converters.quantize.calibrate import calibrated
from vimdeploy.converters.quantize.linears import linear_layers, other_products
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.sensitivity import Sensitivity, sensitivities
from vimdeploy.errors import ConfigError, ModelFileError, ParityError
from vimdeploy.exporters.build_progress import Report
from vimdeploy.ops.schema import register_schemas

CALIBRATING = 256
"""Pictures, at most, that the scales are chosen by: two rows of each at least."""

JUDGING = 32
"""Pictures, at most, that each layer is judged by: the mean over their logits counts, not a single answer."""


@dataclass(frozen=True)
class Int8Model:
    """A model with Linear layers in int8, and how its answers compare with those in float32."""

    proto: onnx.ModelProto
    info: ModelInfo
    layers: tuple[Sensitivity, ...]
    """From the least to the most sensitive."""
    pictures: int
    agreement: float
    """Part of the pictures with the same first answer."""
    float32_accuracy: float | None
    accuracy: float | None
    """Part of the pictures whose class was found; None where the classes are not known."""


def int8_from_float32(
    model: onnx.ModelProto,
    info: ModelInfo,
    pictures: Pictures,
    budget: float = 0.5,
    keep: Sequence[str] = (),
    threads: int | None = None,
    report: Report = lambda phase, done, steps: None,
) -> Int8Model:
    """Bring the Linear layers of a model to int8, as many as a budget allows.

    The rule: the layers stand in a row, from the least to the most sensitive (``Sensitivity.logit_error``). All of them
    become int8 where that loses at most ``budget`` points (``points_lost``) on all pictures. Otherwise the row is
    halved again and again, to as many of its first layers as keep to the budget where one more does not; the rest stays
    in float32.

    Args:
        model: a float32 file of ours.
        info: what it says of itself.
        pictures: what the scales, the order and the budget go by.
        budget: points of a hundred, of accuracy where the pictures' classes are known, else of equal first answers.
        keep: names of products that stay in float32; ``*`` stands for anything.
        threads: of ONNX Runtime.
        report: is told how far each phase is.

    Raises:
        ModelFileError: where the model is not in float32.
        ConfigError: where a name in ``keep`` is none of the model's, or no layer is left.
        ParityError: where a single layer is over the budget.
    """
    if info.precision != "fp32":
        raise ModelFileError(f"Wanted a model in float32 (fp32), found {info.precision}; quantize the fp32 file.")
    kept = other_products(model) | _asked_for(model, keep)
    layers = [layer for layer in linear_layers(model) if layer.name not in kept]
    if not layers:
        raise ConfigError("No Linear layer is left to bring to int8; keep fewer in float32.")
    runner = Runner(info, threads, report)
    scales = calibrated(model, layers, runner, pictures.spread(CALIBRATING))
    row = sensitivities(model, scales, runner, pictures.spread(JUDGING))
    wanted = runner.first_answers(model, pictures, "Answers in float32")
    answers: dict[int, Classes] = {}

    def first_in_int8(count: int) -> onnx.ModelProto:
        return with_int8(model, {judged.layer: scales[judged.layer] for judged in row[:count]})

    def within_budget(count: int) -> bool:
        answers[count] = runner.first_answers(first_in_int8(count), pictures, f"Answers with {count} layers in int8")
        return points_lost(wanted, answers[count], pictures.classes) <= budget

    count = most(len(row), within_budget)
    if count == 0:
        raise ParityError(
            f"No layer can be int8: {row[0].layer}, the least sensitive, loses "
            f"{points_lost(wanted, answers[1], pictures.classes):.2f} points, {budget:g} are allowed; allow more with "
            "--budget, or give more pictures."
        )
    for judged in row[count:]:
        kept[judged.layer] = f"changes the logits by {judged.logit_error:.2%} of their spread: over the budget"
    order = {node.name: position for position, node in enumerate(model.graph.node)}
    kept = dict(sorted(kept.items(), key=lambda item: order[item[0]]))
    info = dataclasses.replace(info, precision=INT8, kept_in_float32=kept)
    return Int8Model(
        _finished(first_in_int8(count), info),
        info,
        tuple(row),
        pictures=len(wanted),
        agreement=float((answers[count] == wanted).mean()),
        float32_accuracy=_accuracy(wanted, pictures.classes),
        accuracy=_accuracy(answers[count], pictures.classes),
    )


def _asked_for(model: onnx.ModelProto, keep: Sequence[str]) -> dict[str, str]:
    names = [layer.name for layer in linear_layers(model)]
    found = {pattern: matching(names, pattern) for pattern in keep}
    for pattern, matched in found.items():
        if not matched:
            raise ConfigError(
                f"Wanted the name of a Linear layer to keep, such as {', '.join(names[:1])}; found {pattern!r}."
            )
    return {name: "asked for" for matched in found.values() for name in matched}


def most(count: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to ``count`` that holds, where none above one that does not hold does; 0 is not asked."""
    if holds(count):
        return count
    below, above = 0, count
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if holds(middle) else (below, middle)
    return below


def _finished(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """The model with what it says of itself, checked."""
    others = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, others | info.to_metadata())
    register_schemas()
    onnx.checker.check_model(model, full_check=True)
    return model


def _accuracy(found: Classes, right: Classes | None) -> float | None:
    return None if right is None else float((found == right).mean())
