"""``vimdeploy verify``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import print_json, track
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
from vimdeploy.cli.verification import document_of, print_verifications
from vimdeploy.errors import ConfigError, require

if TYPE_CHECKING:
    from vimdeploy.artifact import ModelInfo
    from vimdeploy.parity.inputs import Inputs
    from vimdeploy.parity.results import Side, Verification, WeightCheck
    from vimdeploy.runtimes.base import Session
    from vimdeploy.runtimes.eager import EagerSession


@click.command()
@artifact_argument
@checkpoint_option
@click.option("--against", type=PATH, metavar="FILE", help="Compare with this ONNX file or engine, not with PyTorch.")
@click.option("--images", type=PATH, metavar="DIR", help="Real pictures; a sub-folder a class gives accuracy too.")
@click.option(
    "--labels", type=PATH, metavar="CSV", help="Classes of the pictures: columns file (in --images) and class."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=8, show_default=True, help="Random inputs without --images."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@click.option("--stages", "all_stages", is_flag=True, help="List every stage, not a line a kind.")
@click.option("--report", type=PATH, metavar="FILE.html", help="Write a page with plots and pictures, too.")
@device_option
@threads_option
@engine_code_option
@json_option
def verify(
    artifact: Path,
    checkpoint: str | None,
    against: Path | None,
    images: Path | None,
    labels: Path | None,
    count: int,
    seed: int,
    all_stages: bool,
    report: Path | None,
    device: str,
    threads: int | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Proof that a file answers as PyTorch does.

    The same inputs go through PyTorch and through ARTIFACT: an engine as it is, an ONNX file once with the operator
    library (where it is installed) and once with the function bodies alone. Compared are the answers to all inputs, and
    on a few of them every stage of the network, each alone and all in a row, so that the first one that is wrong is
    named; the weights in the file; and what changes from run to run, with threads, and with the place in a batch.

    Without --checkpoint the library is compared with the function bodies instead (files of --random-weights need none).

    Exits with 1 when anything is out of its tolerance; the first sentence says where.
    """
    from vimdeploy.parity.verify import verify as verify_sessions
    from vimdeploy.report.page import check_report

    if report is not None:
        check_report(report)
    sessions = _sessions(artifact, device, threads, allow_engine_code)
    info = sessions[0].info
    inputs = _inputs(info, images, labels, count, seed)
    weights: WeightCheck | None = None
    eager = None if against else _eager_session(info, checkpoint)
    if against is not None:
        if checkpoint is not None:
            raise ConfigError("Wanted one thing to compare with: either --checkpoint or --against, not both.")
        reference, candidates = _other_session(info, against, device, threads, allow_engine_code), sessions
    elif eager is not None:
        reference, candidates = eager, sessions
        weights = _weights(artifact, info, eager)
    else:
        reference, candidates = _two_of_one_file(sessions)
    results = verify_sessions(reference, candidates, inputs, weights, track)
    source = checkpoint or str(against or "") or (artifact if eager is None else info.weights)
    results = [_with_sources(result, str(source), str(artifact)) for result in results]
    if report is not None:
        _write_report(report, results)
    if as_json:
        print_json(document_of(results))
    else:
        print_verifications(results, all_stages)
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


def _inputs(info: ModelInfo, images: Path | None, labels: Path | None, count: int, seed: int) -> Inputs:
    """What to compare on."""
    from vimdeploy.parity.inputs import picture_inputs, random_inputs
    from vimdeploy.preprocess import find_images, images_of_table

    config = info.config
    if images is None:
        if labels is not None:
            raise ConfigError("--labels names the classes of pictures: give their folder with --images DIR.")
        return random_inputs((config.in_channels, *config.image_size), count, seed)
    folder = find_images(images) if labels is None else images_of_table(labels, images)
    classes = folder.class_indices(info.labels, config.num_classes)
    pictures = picture_inputs(folder.paths, config.image_size, info.recipe, classes)
    return dataclasses.replace(pictures, description=f"{pictures.description} of {images}")


def _eager_session(info: ModelInfo, checkpoint: str | None) -> EagerSession | None:
    """The PyTorch model that a file came from; None where its weights are not at hand."""
    if checkpoint is None and info.random_seed is None:
        return None
    from vimdeploy.checkpoint import load_checkpoint

    require("torch", "export")

    from vimdeploy.models.vim import vim_from_tensors, vim_with_random_weights
    from vimdeploy.runtimes.eager import EagerSession

    info = dataclasses.replace(info, precision="fp32")
    if checkpoint is None:
        return EagerSession(vim_with_random_weights(info.config, info.random_seed or 0), info)
    loaded = load_checkpoint(checkpoint, ema=info.weights.endswith("model_ema"))
    if info.checkpoint_sha256 not in ("", loaded.sha256):
        click.echo(
            f"Note: {checkpoint} is not the file that the artifact was exported from (SHA-256 differs).", err=True
        )
    trained = info.config.replace(image_size=info.trained_image_size)
    return EagerSession(vim_from_tensors(trained, loaded.tensors, info.config.image_size), info)


def _weights(artifact: Path, info: ModelInfo, eager: EagerSession) -> WeightCheck | None:
    """The weights in an ONNX file against the model's; None for engines, which do not show theirs."""
    from vimdeploy.artifact import read_onnx
    from vimdeploy.engine_file import is_engine
    from vimdeploy.parity.weights import check_weights

    if is_engine(artifact):
        return None
    tensors = {name: tensor.numpy() for name, tensor in eager.model.state_dict().items()}
    return check_weights(read_onnx(artifact)[0], info.config, tensors)


def _other_session(
    info: ModelInfo, against: Path, device: str, threads: int | None, allow_engine_code: bool
) -> Session:
    """The session of the file to compare with."""
    import vimdeploy
    from vimdeploy.engine_file import is_engine

    options = {"allow_engine_code": allow_engine_code} if is_engine(against) else {}
    other = vimdeploy.load(against, device=device, threads=threads, **options)
    for what, wanted, found in (
        ("image size (height, width)", info.config.image_size, other.info.config.image_size),
        ("number of channels", info.config.in_channels, other.info.config.in_channels),
        ("number of classes", info.config.num_classes, other.info.config.num_classes),
        ("labels", info.labels, other.info.labels),
    ):
        if wanted != found:
            shown = "" if what == "labels" else f": {wanted} and {found}"
            raise ConfigError(f"The two files cannot be compared, because their {what} differ{shown}.")
    return other


def _two_of_one_file(sessions: Sequence[Session]) -> tuple[Session, Sequence[Session]]:
    """The function bodies as the reference, the library as the candidate."""
    *library, body = sessions
    if not library:
        raise ConfigError(
            "Nothing to compare with: give --checkpoint FILE (there are no two ways to compute the operators either)."
        )
    note = "without --checkpoint the library is compared with the function bodies, not PyTorch."
    click.echo(f"Note: {note}", err=True)
    return body, library


def _with_sources(result: Verification, reference: str, candidate: str) -> Verification:
    return dataclasses.replace(
        result, reference=_side(result.reference, reference), candidate=_side(result.candidate, candidate)
    )


def _side(side: Side, source: str) -> Side:
    """A side with the file it runs."""
    from vimdeploy.engine_file import sha256_of

    path = Path(source)
    return dataclasses.replace(side, source=source, sha256=sha256_of(path.read_bytes()) if path.is_file() else "")


def _write_report(path: Path, results: Sequence[Verification]) -> None:
    from datetime import datetime

    from vimdeploy.bench.machine import describe_machine
    from vimdeploy.files import write_whole
    from vimdeploy.report.page import page_of

    page = page_of(results, describe_machine(), datetime.now().astimezone())
    write_whole(path, page.encode())
    click.echo(f"Report: {path}", err=True)
