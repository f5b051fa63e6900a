"""``vimdeploy verify``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import print_json, print_table, track
from vimdeploy.cli.options import (
    PATH,
    artifact_argument,
    checkpoint_option,
    device_option,
    engine_code_option,
    engine_options,
    json_option,
    threads_option,
)
from vimdeploy.errors import ConfigError, require

if TYPE_CHECKING:
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.parity.check import Parity
    from vimdeploy.runtimes.base import Session

BATCH = 8


@click.command()
@artifact_argument
@checkpoint_option
@click.option("--images", type=PATH, metavar="DIR", help="Real pictures; a sub-folder a class gives accuracy too.")
@click.option(
    "--count", type=click.IntRange(min=1), default=8, show_default=True, help="Random inputs without --images."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@device_option
@threads_option
@engine_code_option
@json_option
def verify(
    artifact: Path,
    checkpoint: str | None,
    images: Path | None,
    count: int,
    seed: int,
    device: str,
    threads: int | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Proof that a file answers as PyTorch does.

    The same inputs go through PyTorch and through ARTIFACT: an engine as it is, an ONNX file once with the operator
    library (where it is installed) and once with the function bodies alone. Shown are the largest logit error and where
    it is, the mean error, the smallest cosine, how often the first answer is the same, and the accuracy where --images
    has a sub-folder a class.

    Without --checkpoint the library is compared with the function bodies instead (files of --random-weights need none).

    Exits with 1 when an error is out of tolerance.
    """
    from vimdeploy.parity.check import check_parity, random_batches
    from vimdeploy.preprocess import batches_from_images, find_images

    sessions = _sessions(artifact, device, threads, allow_engine_code)
    info = sessions[0].info
    reference, candidates = _sides(_eager_session(info, checkpoint), sessions)
    if images is None:
        names, classes = [f"input {i}" for i in range(count)], None
        batches = random_batches((info.config.in_channels, *info.config.image_size), count, BATCH, seed)
    else:
        folder = find_images(images)
        names, classes = [str(p) for p in folder.paths], folder.class_indices(info.labels, info.config.num_classes)
        batches = batches_from_images(folder.paths, info.config.image_size, info.recipe, BATCH)
    results = check_parity(reference, candidates, track(batches, -(-len(names) // BATCH), "Comparing"), classes)
    if as_json:
        print_json([_as_dict(result, names) for result in results])
    else:
        _print(results, names)
    if not all(result.passed for result in results):
        click.get_current_context().exit(1)


def _sessions(artifact: Path, device: str, threads: int | None, allow_engine_code: bool) -> Sequence[Session]:
    """A session for each way in which a file can compute our operators here."""
    options = engine_options(artifact, allow_engine_code)
    from vimdeploy.engine_file import is_engine

    if is_engine(artifact):
        import vimdeploy

        return [vimdeploy.load(artifact, device=device, threads=threads, **options)]
    from vimdeploy.artifact import read_onnx
    from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators

    _, info = read_onnx(artifact)
    return sessions_of_all_operators(artifact, info, threads, device)


def _eager_session(info: ModelInfo, checkpoint: str | None) -> Session | None:
    """The PyTorch model that a file came from; None where its weights are not at hand."""
    if checkpoint is None and info.random_seed is None:
        return None
    from vimdeploy.checkpoint import load_checkpoint

    require("torch", "export")

    from vimdeploy.models.vim import vim_from_tensors, vim_with_random_weights
    from vimdeploy.runtimes.eager import EagerSession

    if checkpoint is None:
        return EagerSession(vim_with_random_weights(info.config, info.random_seed or 0), info)
    loaded = load_checkpoint(checkpoint, ema=info.weights.endswith("model_ema"))
    if info.checkpoint_sha256 not in ("", loaded.sha256):
        click.echo(
            f"Note: {checkpoint} is not the file that the artifact was exported from (SHA-256 differs).", err=True
        )
    trained = info.config.replace(image_size=info.trained_image_size)
    return EagerSession(vim_from_tensors(trained, loaded.tensors, info.config.image_size), info)


def _sides(eager: Session | None, sessions: Sequence[Session]) -> tuple[Session, Sequence[Session]]:
    """Which session is the reference, and which are compared with it."""
    if eager is not None:
        return eager, sessions
    *library, body = sessions
    if not library:
        raise ConfigError(
            "Nothing to compare with: give --checkpoint FILE (there are no two ways to compute the operators either)."
        )
    note = "without --checkpoint the library is compared with the function bodies, not PyTorch."
    click.echo(f"Note: {note}", err=True)
    return body, library


def _as_dict(result: Parity, names: list[str]) -> dict[str, object]:
    derived = {"relative_error": result.relative_error, "passed": result.passed}
    return dataclasses.asdict(result) | {"worst_image": names[result.worst_image]} | derived


def _print(results: list[Parity], names: list[str]) -> None:
    first = results[0]
    click.echo(
        f"Reference: {first.reference}; {first.images} images; logits' standard deviation {first.logits_std:.4g}"
    )
    if first.reference_accuracy is not None:
        click.echo(f"Accuracy of the reference: {first.reference_accuracy:.2%}")
    rows = [
        (
            result.candidate,
            f"{result.max_error:.2e}",
            f"{result.relative_error:.1e} (<= {result.tolerance.limit:.0e})",
            f"{names[result.worst_image]}, logit {result.worst_logit}: "
            f"{result.worst_pair[0]:.6g} / {result.worst_pair[1]:.6g}",
            f"{result.mean_error:.1e}",
            f"{result.min_cosine:.9f}",
            f"{result.top1_agreement:.2%}",
            "" if result.candidate_accuracy is None else f"{result.candidate_accuracy:.2%}",
            "pass" if result.passed else "FAIL",
        )
        for result in results
    ]
    headers = (
        "candidate",
        "max error",
        "of std",
        "worst at",
        "mean error",
        "cosine",
        "same top-1",
        "accuracy",
        "result",
    )
    print_table(headers, rows)
