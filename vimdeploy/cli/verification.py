"""What ``verify`` found, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vimdeploy.cli.console import print_table

if TYPE_CHECKING:
    from vimdeploy.parity.results import Deviation, Proportion, Stage, Verification

SHOWN = 10
"""Failing stages and changed answers that are listed; the page and the JSON document have more."""


def document_of(value: Any) -> Any:
    """Results with all that follows from them, as JSON has it; the pictures are on the page alone."""
    if isinstance(value, (list, tuple)):
        return [document_of(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    derived = [name for name, item in vars(type(value)).items() if isinstance(item, property) and name != "complaint"]
    names = [field.name for field in dataclasses.fields(value)] + derived
    return {name: document_of(getattr(value, name)) for name in names if name != "png"}


def print_verifications(results: Sequence[Verification], all_stages: bool) -> None:
    """The verdict in a sentence, then tables."""
    click.echo(_verdict(results))
    first = results[0]
    source = f" of {first.reference.source}" if first.reference.source else ""
    click.echo(f"\nReference: {first.reference.description}{source}; {first.inputs}.")
    _print_logits(results)
    _print_answers(results)
    for result in results:
        _print_stages(result, all_stages)
    _print_weights(first)
    _print_determinism(results)
    for result in results:
        _print_changed(result)


def _verdict(results: Sequence[Verification]) -> str:
    for result in results:
        if result.fault is not None:
            return f"{result.fault.where}: {result.fault.what} [{result.candidate.description}]."
    first = results[0]
    sides = " and ".join(result.candidate.description for result in results)
    errors = max(result.logits.relative for result in results)
    verb = "answers" if len(results) == 1 else "answer"
    return f"Passed: {sides} {verb} as {first.reference.description} does, to {errors:.1e} of the logits' spread."


def _print_logits(results: Sequence[Verification]) -> None:
    rows = [
        (
            result.candidate.description,
            f"{logits.relative:.1e}",
            f"{logits.tolerance.limit:.1e}",
            f"{logits.place.image}, logit {logits.place.index[0]}: "
            f"{logits.place.wanted:.6g} / {logits.place.found:.6g}",
            f"{logits.mean / logits.spread:.1e}" if logits.spread else "",
            f"{logits.cosine:.9f}",
            _word(logits.passed),
        )
        for result in results
        for logits in [result.logits]
    ]
    click.echo(f"\nLogits, in parts of their standard deviation of {results[0].logits.spread:.4g}:")
    print_table(("candidate", "largest error", "allowed", "where: reference / candidate", "mean", "cosine", ""), rows)
    for reason in dict.fromkeys(result.logits.tolerance.reason for result in results):
        click.echo(f"Allowed: {reason}.")


def _print_answers(results: Sequence[Verification]) -> None:
    first = results[0].answers
    rows = [
        (result.candidate.description, *map(_percent, (a.top1, a.top5, a.candidate_top1, a.candidate_top5)))
        for result in results
        for a in [result.answers]
    ]
    if first.reference_top1 is not None:
        of_reference = map(_percent, (first.reference_top1, first.reference_top5))
        rows.insert(0, (results[0].reference.description, "", "", *of_reference))
    headers = ("", "same first class", "same first five", "right first", "right among five")
    shown = [i for i in range(len(headers)) if i == 0 or any(row[i] for row in rows)]
    click.echo(f"\nAnswers to {results[0].images} images, with 95 % intervals:")
    print_table([headers[i] for i in shown], [[row[i] for i in shown] for row in rows])


def _print_stages(result: Verification, all_stages: bool) -> None:
    if not result.stages:
        click.echo(f"\n{result.candidate.description}: {result.stages_note}" if result.stages_note else "")
        return
    click.echo(f"\nStages of {result.candidate.description}: the largest error in parts of what stands there,")
    click.echo("own: fed with the same values as the reference; carried: with all errors of the stages before.")
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
        click.echo(f"{missing} more stages are out of their bands; --stages lists all.")


def _row(title: str, stages: Sequence[Stage]) -> Sequence[str]:
    """One stage, or all of a kind: where they come nearest to their bands."""
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
    click.echo(f"\nWeights: {weights.compared} tensors of the file compared, {len(weights.differences)} differ.")
    for difference in weights.differences[:SHOWN]:
        click.echo(f"{difference.stage}: {difference.complaint}")
    if weights.unknown:
        click.echo(f"Not found under the names of our exports: {len(weights.unknown)}, first {weights.unknown[0]}.")


def _print_determinism(results: Sequence[Verification]) -> None:
    rows = [
        (
            result.candidate.description,
            check.name,
            "equal to the bit" if check.error == 0 else f"{check.error:.1e}",
            f"{check.tolerance.limit:.1e}",
            _word(check.passed),
        )
        for result in results
        for check in result.determinism
    ]
    click.echo("\nThe same inputs in other ways, in parts of the logits' spread:")
    print_table(("candidate", "compared", "difference", "allowed", ""), rows)


def _print_changed(result: Verification) -> None:
    changed = result.answers.top1.total - result.answers.top1.count
    if not changed:
        return
    click.echo(
        f"\n{changed} answers of {result.candidate.description} are others; margins are first minus second logit:"
    )
    rows = [
        (a.image, a.truth, a.wanted, f"{a.reference_margin:.4g}", a.found, f"{a.candidate_margin:.4g}")
        for a in result.changed[:SHOWN]
    ]
    print_table(("image", "right", "reference", "its margin", "candidate", "its margin"), rows)


def _percent(proportion: Proportion | None) -> str:
    if proportion is None:
        return ""
    low, high = proportion.interval
    return f"{proportion.part:.2%} ({low:.2%} to {high:.2%})"


def _word(passed: bool) -> str:
    return "pass" if passed else "FAIL"
