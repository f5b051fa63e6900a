"""What ``verify`` found, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vimdeploy.cli.console import print_table, say, with_interval

if TYPE_CHECKING:
    from vimdeploy.parity.results import Deviation, OutputErrors, Stage, Verification

SHOWN = 10
"""The most failing stages, weights and changed answers that are listed; the JSON document has more."""
_LEFT_OUT = frozenset({"complaint", "drawing", "drawn", "png", "sides", "worst"})
"""Sentences, pictures, and an output that the document has among the outputs."""


def document_of(value: Any) -> Any:
    """Results as JSON: their fields, and the properties that follow from them."""
    if isinstance(value, (list, tuple)):
        return [document_of(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    derived = [name for name, item in vars(type(value)).items() if isinstance(item, property)]
    names = [field.name for field in dataclasses.fields(value)] + derived
    return {name: document_of(getattr(value, name)) for name in names if name not in _LEFT_OUT}


def print_verifications(results: Sequence[Verification], all_stages: bool) -> None:
    """Print the verdict as a sentence, then tables.

    Args:
        results: at least one; all with the same reference and the same inputs.
        all_stages: whether to list every stage instead of one line per kind.
    """
    say(_verdict(results))
    first = results[0]
    source = f" of {first.reference.source}" if first.reference.source else ""
    say()
    say(f"Reference: {first.reference.description}{source}; {first.inputs}.")
    _print_outputs(results)
    _print_answers(results)
    for result in results:
        _print_stages(result, all_stages)
    _print_weights(first)
    _print_determinism(results)
    for result in results:
        _print_changes(result)


def _verdict(results: Sequence[Verification]) -> str:
    for result in results:
        if result.fault is not None:
            return f"{result.fault.where}: {result.fault.what} [{result.candidate.description}]."
    sides = " and ".join(result.candidate.description for result in results)
    worst = max((result.worst for result in results), key=lambda output: output.relative)
    verb = "agrees" if len(results) == 1 else "agree"
    return (
        f"Passed: {sides} {verb} with {results[0].reference.description}: the largest error of output {worst.name} "
        f"is {worst.relative:.1e} {worst.unit}."
    )


def _print_outputs(results: Sequence[Verification]) -> None:
    rows = [
        (
            result.candidate.description,
            output.name,
            f"{output.relative:.1e}",
            f"{output.tolerance.limit:.1e}",
            _where(output),
            f"{output.mean / output.std:.1e}" if output.std else "",
            f"{output.cosine:.9f}",
            _word(output.passed),
        )
        for result in results
        for output in result.outputs
    ]
    say()
    labels = [output.name for output in results[0].outputs if output.of_labels]
    of_labels = f"; of {', '.join(labels)}, the part of an image's labels that differ" if labels else ""
    say(f"Errors of the outputs, in standard deviations of the reference's values{of_labels}:")
    headers = ("candidate", "output", "largest error", "allowed", "where: reference / candidate", "mean", "cosine", "")
    print_table(headers, rows)
    for reason in dict.fromkeys(output.tolerance.reason for result in results for output in result.outputs):
        say(f"Allowed: {reason}.")


def _where(output: OutputErrors) -> str:
    """Where the largest error of an output is, and the values there."""
    if not output.values:
        return "nothing was found on both sides"
    place = output.place
    return f"{place.image}, element {', '.join(map(str, place.index))}: {place.wanted:.6g} / {place.found:.6g}"


def _print_answers(results: Sequence[Verification]) -> None:
    """Print one line per measure and one column per side."""
    first = results[0]
    if not first.answers.measures:
        say()
        say("Only outputs were compared, no answers.")
        return
    sides = zip(*(result.answers.measures for result in results), strict=True)
    headers = ["measure", first.reference.description, *(result.candidate.description for result in results)]
    rows = [
        [
            measures[0].name,
            f"{measures[0].reference.part:.2%}" if measures[0].reference else "",
            *(with_interval(measure.candidate) for measure in measures),
        ]
        for measures in sides
    ]
    say()
    say(f"Answers to {first.images} images, with 95 % confidence intervals:")
    _print_filled(headers, rows)


def _print_stages(result: Verification, all_stages: bool) -> None:
    if not result.stages:
        if result.stages_note:
            say()
            say(f"{result.candidate.description}: {result.stages_note}")
        return
    say()
    say(f"Stages of {result.candidate.description}. Largest relative error.")
    say("'own': the stage alone, given the reference's inputs. 'carried': including errors from earlier stages.")
    if all_stages:
        rows = [_row(stage.title, [stage]) for stage in result.stages]
    else:
        kinds = dict.fromkeys(stage.kind for stage in result.stages)
        rows = [_row(kind, [stage for stage in result.stages if stage.kind == kind]) for kind in kinds]
        failed = [stage for stage in result.stages if not stage.passed]
        rows += [_row(stage.title, [stage]) for stage in failed[:SHOWN]]
    print_table(("stage", "own", "carried", "worst carried in", ""), rows)
    missing = sum(not stage.passed for stage in result.stages) - SHOWN
    if missing > 0 and not all_stages:
        say(f"{_count(missing, 'more stage')} failed; --stages lists all.")


def _row(title: str, stages: Sequence[Stage]) -> Sequence[str]:
    """A line for one stage or for all of a kind: the errors that come nearest to what is allowed."""
    own = [stage.own for stage in stages if stage.own is not None]
    carried = max(stages, key=lambda stage: _nearness(stage.carried))
    return (
        title,
        _band(max(own, key=_nearness)) if own else "",
        _band(carried.carried),
        carried.title,
        _word(all(stage.passed for stage in stages)),
    )


def _nearness(deviation: Deviation) -> float:
    return deviation.error / deviation.tolerance.limit


def _band(deviation: Deviation) -> str:
    return f"{deviation.error:.1e} of {deviation.tolerance.limit:.1e}"


def _print_weights(result: Verification) -> None:
    weights = result.weights
    if weights is None:
        return
    different = len(weights.differences)
    say()
    say(f"Weights: {_count(weights.compared, 'tensor')} compared with the checkpoint's, {different} different.")
    for difference in weights.differences[:SHOWN]:
        say(f"{difference.stage}: {difference.complaint}")
    if weights.unknown:
        missing = _count(len(weights.unknown), "tensor")
        say(f"The file does not contain {missing} of the checkpoint by name; the first is {weights.unknown[0]}.")


def _print_determinism(results: Sequence[Verification]) -> None:
    rows = [
        (
            result.candidate.description,
            check.name,
            "identical to the bit" if check.error == 0 else f"{check.error:.1e}",
            f"{check.tolerance.limit:.1e}",
            _word(check.passed),
        )
        for result in results
        for check in result.determinism
    ]
    if rows:
        say()
        say("Determinism: the largest difference of any output, in its standard deviations:")
        print_table(("candidate", "compared", "difference", "allowed", ""), rows)


def _print_changes(result: Verification) -> None:
    answers = result.answers
    if not answers.changed:
        return
    changes = answers.changes[:SHOWN]
    rest = f", the first {len(changes)} listed" if len(changes) < answers.changed else ""
    margin = f" (margin = {answers.margin})" if answers.margin else ""
    images = _count(answers.changed, "image")
    say()
    say(f"{result.candidate.description} gives a different answer for {images}{rest}{margin}:")
    margins = [["", ""] if c.margins is None else [f"{margin:.4g}" for margin in c.margins] for c in changes]
    rows = [(c.image, c.truth, c.reference, m[0], c.candidate, m[1]) for c, m in zip(changes, margins, strict=True)]
    _print_filled(("image", "label", "reference", "margin", "candidate", "margin"), rows)


def _print_filled(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table without the columns that are empty in all rows."""
    filled = [i for i in range(len(headers)) if any(row[i] for row in rows)]
    print_table([headers[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _word(passed: bool) -> str:
    return "pass" if passed else "FAIL"
