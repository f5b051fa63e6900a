"""Which layers of a model become int8, by a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching

import onnx

from vimdeploy.artifact import Artifact
from vimdeploy.converters.conversion import ASKED, finished
from vimdeploy.converters.quantize.answers import Runner
from vimdeploy.converters.quantize.calibrate import calibrated
from vimdeploy.converters.quantize.linears import linear_layers, other_products, with_products
from vimdeploy.converters.quantize.qdq import with_int8
from vimdeploy.converters.quantize.sensitivity import Sensitivity, sensitivities
from vimdeploy.errors import ConfigError, ModelFileError, ParityError
from vimdeploy.inputs import Inputs
from vimdeploy.model_info import INT8
from vimdeploy.progress import Progress, silent
from vimdeploy.tasks.base import Agreement, Comparison

CALIBRATING = 256
"""Pictures, at most, that the scales are chosen by: two rows of each at least."""

JUDGING = 32
"""Pictures, at most, that each layer is judged by: the mean over their outputs counts, not a single answer."""


@dataclass(frozen=True)
class Int8Model:
    """A model with Linear layers in int8, and how its answers compare with those in float32."""

    artifact: Artifact
    layers: tuple[Sensitivity, ...]
    """From the least to the most sensitive."""
    images: int
    agreement: Agreement
    """How the answers to all pictures compare."""
    points_lost: float
    """In percentage points of what counts for the task."""


def int8_from_float32(
    artifact: Artifact,
    inputs: Inputs,
    budget: float = 0.5,
    keep: Sequence[str] = (),
    threads: int | None = None,
    progress: Progress = silent,
) -> Int8Model:
    """Bring the Linear layers of a model to int8, as many as a budget allows.

    The layers are sorted from the least to the most sensitive (``Sensitivity.output_error``). All of them become int8
    if that loses at most ``budget`` percentage points on all pictures. Otherwise a binary search finds the largest
    prefix of the list that stays within the budget; the rest stays in float32.

    Args:
        artifact: a float32 file of ours.
        inputs: the pictures that the scales, the order and the budget are judged by.
        budget: percentage points, of what ``Task.counts`` says; without a task, of the outputs' standard deviation.
        keep: names of products that stay in float32; ``*`` stands for anything.
        threads: of ONNX Runtime.
        progress: is told how far each phase is.

    Raises:
        ModelFileError: if the model is not in float32.
        ConfigError: if a name in ``keep`` is none of the model's, no layer is left, the inputs are too few to tell a
            loss of ``budget``, or nothing is found in them.
        ParityError: if a single layer is over the budget.
    """
    info = artifact.info
    if info.precision != "fp32":
        raise ModelFileError(f"Wanted a model in float32 (fp32), found {info.precision}; quantize the fp32 file.")
    if not info.task:
        artifact = finished(with_products(artifact.model), info, artifact.model)
    model = artifact.model
    kept = other_products(model) | _asked_for(model, keep)
    layers = [layer for layer in linear_layers(model) if layer.name not in kept]
    if not layers:
        raise ConfigError("No Linear layer is left to bring to int8; keep fewer in float32.")
    if info.task:
        _check_budget(budget, len(inputs))
    runner = Runner(info, threads, progress)
    scales = calibrated(artifact, layers, runner, inputs.spread(CALIBRATING))
    row = sensitivities(model, scales, runner, inputs.spread(JUDGING))
    wanted = runner.answers(model, inputs, "Answers in float32")
    compared: dict[int, Comparison] = {}

    def first_in_int8(count: int) -> onnx.ModelProto:
        return with_int8(model, {judged.layer: scales[judged.layer] for judged in row[:count]})

    def within_budget(count: int) -> bool:
        found = runner.answers(first_in_int8(count), inputs, f"Answers with {count} layers in int8")
        compared[count] = runner.comparison(inputs)
        compared[count].add(wanted, found)
        lost = compared[count].points_lost()
        if math.isnan(lost):
            raise ConfigError(
                "The model finds nothing in these pictures, so nobody can tell what int8 loses; give pictures of what "
                "it was trained to find."
            )
        return lost <= budget

    count = most(len(row), within_budget)
    if count == 0:
        raise ParityError(
            f"No layer can be int8: {row[0].layer}, the least sensitive, loses {compared[1].points_lost():.2f} "
            f"percentage points, {budget:g} are allowed; allow more with --budget, or give more pictures."
        )
    for judged in row[count:]:
        kept[judged.layer] = (
            f"changes the outputs by {judged.output_error:.2%} of their standard deviation: over the budget"
        )
    order = {node.name: position for position, node in enumerate(model.graph.node)}
    kept = dict(sorted(kept.items(), key=lambda item: order[item[0]]))
    info = dataclasses.replace(info, precision=INT8, kept_in_float32=kept)
    return Int8Model(
        finished(first_in_int8(count), info, model),
        tuple(row),
        images=len(inputs),
        agreement=compared[count].result(),
        points_lost=compared[count].points_lost(),
    )


def _check_budget(budget: float, pictures: int) -> None:
    """Refuse a budget that the pictures cannot decide; a budget of 0 allows no change that they show."""
    one = 100 / pictures
    if 0 < budget < one:
        raise ConfigError(
            f"Wanted at least {math.ceil(100 / budget)} pictures for a budget of {budget:g} percentage points, found "
            f"{pictures}: a single answer among them is {one:.3g} points. Give more pictures, or allow more with "
            "--budget."
        )


def _asked_for(model: onnx.ModelProto, keep: Sequence[str]) -> dict[str, str]:
    names = [layer.name for layer in linear_layers(model)]
    found = {pattern: matching(names, pattern) for pattern in keep}
    for pattern, matched in found.items():
        if not matched:
            raise ConfigError(
                f"Wanted the name of a Linear layer to keep, such as {', '.join(names[:1])}; found {pattern!r}."
            )
    return {name: ASKED for matched in found.values() for name in matched}


def most(count: int, holds: Callable[[int], bool]) -> int:
    """The largest n in 1..count for which holds(n), assuming that holds is monotone; 0 if none.

    holds(0) is never called.
    """
    if holds(count):
        return count
    below, above = 0, count
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if holds(middle) else (below, middle)
    return below
