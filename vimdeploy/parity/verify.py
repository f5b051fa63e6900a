"""The whole proof: outputs and answers on all images, stages on some, weights, determinism."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

from vimdeploy.inputs import Inputs
from vimdeploy.model_info import ModelInfo
from vimdeploy.parity.check import check_parity
from vimdeploy.parity.determinism import check_determinism
from vimdeploy.parity.results import Verification, WeightCheck
from vimdeploy.parity.stages import compare_stages
from vimdeploy.preprocess import image_from_tensor
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.runtimes.base import Array, Session
from vimdeploy.tasks.base import DRAWN, Agreement, Answer
from vimdeploy.tolerance import tolerance_of

BATCH = 8
STAGE_IMAGES = 2
"""Images whose stages are compared, beside those with the worst outputs: a fault of the file shows on any of them."""


def verify_sessions(
    reference: Session,
    candidates: Sequence[Session],
    inputs: Inputs,
    weights: WeightCheck | None = None,
    progress: Progress = silent,
) -> list[Verification]:
    """Compare sessions with a reference in every way.

    Memory does not grow with the number of images: batches of ``BATCH`` are made, compared and forgotten; stages are
    compared one image at a time. The slow reference runs each image once for all candidates.

    Args:
        reference: whose values count as right.
        candidates: the sessions to compare.
        inputs: what to compare on.
        weights: what ``check_weights`` found in the candidates' file.
        progress: is told how far the work is.

    Returns:
        One result per candidate, in their order.
    """
    batches = tracked(inputs.batches(BATCH), "Comparing answers", inputs.batch_count(BATCH), progress)
    results = check_parity(reference, candidates, batches, inputs.classes, inputs.names)
    worst = [inputs.names.index(output.place.image) for result in results for output in result.outputs]
    chosen = list(dict.fromkeys([*range(min(STAGE_IMAGES, len(inputs))), *worst]))
    batch = next((side.info.fixed_batch for side in (reference, *candidates) if side.info.fixed_batch), 1)
    images = tracked(
        ((inputs.names[i], inputs.call(i, batch)) for i in chosen),
        "Comparing stages",
        len(chosen),
        progress,
    )
    stages = compare_stages(reference, candidates, images)
    verifications = []
    for result, candidate, (found, note) in zip(results, candidates, stages, strict=True):
        stds = {output.name: output.std for output in result.outputs}
        arrays, tolerance = next(inputs.batches(BATCH)), tolerance_of(candidate.info)
        verifications.append(
            dataclasses.replace(
                result,
                inputs=inputs.description,
                answers=_with_pictures(result.answers, inputs, reference.info),
                stages=found,
                stages_note=note,
                weights=weights,
                determinism=check_determinism(candidate, candidate.on_one_thread(), arrays, stds, tolerance),
            )
        )
    return verifications


def verify_outputs(
    reference: Session,
    recorded: Session,
    inputs: Inputs,
    weights: WeightCheck | None = None,
    progress: Progress = silent,
) -> Verification:
    """Compare outputs that another program has given, and nothing else of it.

    Args:
        reference: whose values count as right.
        recorded: the outputs.
        inputs: that they belong to.
        weights: what ``check_weights`` found in the file that the program ran.
        progress: is told how far the work is.
    """
    batches = tracked(inputs.batches(BATCH), "Comparing answers", inputs.batch_count(BATCH), progress)
    (result,) = check_parity(reference, [recorded], batches, inputs.classes, inputs.names)
    return dataclasses.replace(
        result,
        inputs=inputs.description,
        answers=_with_pictures(result.answers, inputs, reference.info),
        stages_note="a file of outputs tells no stages, and not whether they change from run to run.",
        weights=weights,
    )


def _with_pictures(answers: Agreement, inputs: Inputs, info: ModelInfo) -> Agreement:
    """The changed answers with their pictures in small, and drawn on what the model saw of them."""
    changes = []
    for change in answers.changes:
        number = inputs.names.index(change.image)
        png = inputs.png(number)
        drawn = None
        if png and change.sides is not None and info.picture is not None:
            drawn = _drawn(change.sides, inputs.one(number)[info.picture.name], info)
        changes.append(dataclasses.replace(change, png=png, sides=None, drawn=drawn))
    return dataclasses.replace(answers, changes=tuple(changes))


def _drawn(sides: tuple[Answer, Answer], tensor: Array, info: ModelInfo) -> tuple[bytes, bytes] | None:
    """Two answers on what the model saw, as JPEG files: of photographs these are a tenth as large as PNG files."""
    files = []
    for side in sides:
        seen = image_from_tensor(tensor, info.recipe)
        scale = DRAWN / max(seen.size)
        width, height = (max(round(length * scale), 1) for length in seen.size)
        picture, file = side.picture(seen.resize((width, height))), io.BytesIO()
        if picture is None:
            return None
        picture.save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files[0], files[1]
