"""The whole proof: answers on all images, stages on some, weights, determinism."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from vimdeploy.errors import ConfigError
from vimdeploy.parity.check import check_parity
from vimdeploy.parity.determinism import check_determinism
from vimdeploy.parity.inputs import Inputs
from vimdeploy.parity.results import ChangedAnswer, Stage, Verification, WeightCheck
from vimdeploy.parity.stages import compare_stages
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session
from vimdeploy.tolerance import tolerance_for

BATCH = 8
STAGE_IMAGES = 2
"""Images whose stages are compared, beside the one with the worst logit: a fault of the file shows on any of them."""

Track = Callable[[Iterable[FloatArray], int, str], Iterator[FloatArray]]
"""Shows progress: the items, how many there are, and what is done with them."""


def verify(
    reference: Session,
    candidates: Sequence[Session],
    inputs: Inputs,
    weights: WeightCheck | None = None,
    track: Track = lambda items, *_: iter(items),
) -> list[Verification]:
    """Compare sessions with a reference in every way.

    Memory does not grow with the number of images: batches of ``BATCH`` are made, compared and forgotten; stages are
    compared one image at a time.

    Args:
        reference: whose answers count as right.
        candidates: the sessions to compare.
        inputs: what to compare on.
        weights: what ``check_weights`` found in the candidates' file.
        track: shows progress.

    Returns:
        One result a candidate, in their order.
    """
    batches = track(inputs.batches(BATCH), -(-len(inputs.names) // BATCH), "Comparing answers")
    results = check_parity(reference, candidates, batches, inputs.classes, inputs.names)
    verifications = []
    for result, candidate in zip(results, candidates, strict=True):
        title = f"Comparing stages, {candidate.operators}"
        stages, note = _stages(reference, candidate, inputs, result, title, track)
        batch = next(inputs.batches(BATCH))
        spread, tolerance = result.logits.spread, tolerance_for(candidate.info.precision)
        verifications.append(
            dataclasses.replace(
                result,
                inputs=inputs.description,
                changed=tuple(_with_picture(answer, inputs) for answer in result.changed),
                stages=stages,
                stages_note=note,
                weights=weights,
                determinism=check_determinism(candidate, candidate.on_one_thread(), batch, spread, tolerance),
            )
        )
    return verifications


def _stages(
    reference: Session, candidate: Session, inputs: Inputs, result: Verification, title: str, track: Track
) -> tuple[tuple[Stage, ...], str]:
    """The stages, or why there are none."""
    worst = inputs.names.index(result.logits.place.image)
    chosen = list(dict.fromkeys([*range(min(STAGE_IMAGES, len(inputs.names))), worst]))
    images = track((inputs.image(i) for i in chosen), len(chosen), title)
    try:
        return compare_stages(reference, candidate, zip((inputs.names[i] for i in chosen), images, strict=True)), ""
    except ConfigError as error:
        return (), f"Stages are left out: {str(error).removesuffix('.')}."


def _with_picture(answer: ChangedAnswer, inputs: Inputs) -> ChangedAnswer:
    return dataclasses.replace(answer, png=inputs.png(inputs.names.index(answer.image)))
