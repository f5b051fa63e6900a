"""The whole proof: outputs and answers on all images, stages on some, weights, determinism."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vimdeploy.inputs import Inputs
from vimdeploy.parity.check import check_parity
from vimdeploy.parity.determinism import check_determinism
from vimdeploy.parity.results import Verification, WeightCheck
from vimdeploy.parity.stages import compare_stages
from vimdeploy.progress import Progress, silent, tracked
from vimdeploy.runtimes.base import Array, Session
from vimdeploy.tasks.base import Agreement
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
    images = tracked(
        ((inputs.names[i], _batch_of_one(inputs.one(i))) for i in chosen), "Comparing stages", len(chosen), progress
    )
    stages = compare_stages(reference, candidates, images)
    verifications = []
    for result, candidate, (found, note) in zip(results, candidates, stages, strict=True):
        stds = {output.name: output.std for output in result.outputs}
        batch, tolerance = next(inputs.batches(BATCH)), tolerance_of(candidate.info)
        verifications.append(
            dataclasses.replace(
                result,
                inputs=inputs.description,
                answers=_with_pictures(result.answers, inputs),
                stages=found,
                stages_note=note,
                weights=weights,
                determinism=check_determinism(candidate, candidate.on_one_thread(), batch, stds, tolerance),
            )
        )
    return verifications


def _batch_of_one(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.expand_dims(array, 0) for name, array in arrays.items()}


def _with_pictures(answers: Agreement, inputs: Inputs) -> Agreement:
    changes = [dataclasses.replace(c, png=inputs.png(inputs.names.index(c.image))) for c in answers.changes]
    return dataclasses.replace(answers, changes=tuple(changes))
