"""``vimdeploy verify``."""

from __future__ import annotations

from pathlib import Path

import click

from vimdeploy.cli.console import phases, print_json, say
from vimdeploy.cli.options import (
    PATH,
    artifact_argument,
    checkpoint_option,
    cuda_graphs_option,
    device_option,
    engine_code_option,
    image_size_option,
    json_option,
    model_option,
    precision_option,
    providers_option,
    runtime_option,
    seed_option,
    threads_option,
    verbose_option,
)
from vimdeploy.cli.verification import document_of, print_verifications


@click.command()
@artifact_argument
@checkpoint_option
@model_option
@click.option(
    "--against",
    type=PATH,
    metavar="FILE|OUTPUTS.npz",
    help="Compare with this ONNX file or engine instead of PyTorch, for example a half-precision file with its "
    "original. OUTPUTS.npz holds what another program gave for the inputs, an array for each output: it is judged in "
    "place of ARTIFACT's own answers.",
)
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="Compare on these pictures, because real ones count; with a sub-folder per class, accuracy is shown too. "
    "Default: random inputs.",
)
@click.option(
    "--classes",
    type=PATH,
    metavar="CSV",
    help="Read the classes of the pictures from this table, with the columns file (in --images) and class, instead of "
    "from sub-folders.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Compare on this many random inputs, if there are no --images.",
)
@seed_option
@image_size_option
@click.option(
    "--save-inputs",
    type=PATH,
    metavar="FILE.npz",
    help="Write the inputs to this file and compare nothing, so that a program that vimdeploy does not drive can run "
    "the model on them: an array for each input, by name.",
)
@click.option(
    "--inputs",
    type=PATH,
    metavar="FILE.npz",
    help="Compare on the inputs in this file, as --save-inputs wrote it or you did, instead of random ones.",
)
@click.option(
    "--stages",
    "all_stages",
    is_flag=True,
    help="List every stage instead of one line per kind, to see how errors grow.",
)
@click.option(
    "--report", type=PATH, metavar="FILE.html", help="Write a self-contained page with plots and pictures, to share."
)
@device_option
@providers_option
@cuda_graphs_option
@threads_option
@runtime_option
@precision_option
@engine_code_option
@verbose_option
@json_option
def verify(
    artifact: Path,
    checkpoint: str | None,
    exported_from: str | None,
    against: Path | None,
    images: Path | None,
    classes: Path | None,
    count: int,
    seed: int,
    image_size: tuple[int, int] | None,
    save_inputs: Path | None,
    inputs: Path | None,
    all_stages: bool,
    report: Path | None,
    device: str,
    providers: tuple[str, ...] | None,
    cuda_graphs: bool,
    threads: int | None,
    runtime: str,
    precision: str | None,
    allow_engine_code: bool,
    as_json: bool,
) -> None:
    """Prove that a file answers as PyTorch does, or find the first stage that does not.

    The same inputs go through PyTorch and through ARTIFACT: an engine as it is, an ONNX file once with the operator
    library (if it is installed) and once with the function bodies alone. Four things are compared: the outputs and
    answers for all inputs; every stage of the network on a few inputs, each alone and all in a row, so that the first
    wrong one can be named; the weights in the file; and what changes from run to run, with the number of threads, and
    with the place in a batch.

    Without --checkpoint, or --model for a file of FILE.py:FUNCTION, the library is compared with the function bodies
    instead. Files of --random-weights need no checkpoint.

    \b
    vimdeploy verify vim_tiny.onnx -c vim_tiny.pth --images pictures --report proof.html
    vimdeploy verify vim_tiny_fp16.onnx --against vim_tiny.onnx
    vimdeploy verify theirs.onnx --model their_model.py:make
    vimdeploy verify vim_tiny.onnx -c vim_tiny.pth --runtime openvino

    \b
    A runtime that vimdeploy does not drive:
    vimdeploy verify vim_tiny.onnx --save-inputs inputs.npz
    vimdeploy verify vim_tiny.onnx -c vim_tiny.pth --inputs inputs.npz --against outputs.npz

    The exit code is 1 if anything is out of its tolerance; the first sentence says where.
    """
    from vimdeploy.api.verify import save_inputs as save
    from vimdeploy.api.verify import verify as verify_artifact

    if save_inputs is not None:
        if against is not None or inputs is not None or report is not None:
            raise click.UsageError("--save-inputs compares nothing: leave out --against, --inputs and --report.")
        saved = save(
            artifact,
            save_inputs,
            model=exported_from,
            images=images,
            count=count,
            seed=seed,
            image_size=image_size,
        )
        say(
            f"{save_inputs}: {saved.description}; nothing was compared. Run the model on them elsewhere, write its "
            f"outputs with numpy.savez, then: vimdeploy verify {artifact} --inputs {save_inputs} --against outputs.npz",
            err=True,
        )
        return
    with phases("Verifying") as progress:
        results = verify_artifact(
            artifact,
            checkpoint=checkpoint,
            model=exported_from,
            against=against,
            images=images,
            classes=classes,
            count=count,
            seed=seed,
            image_size=image_size,
            inputs=inputs,
            report=report,
            device=device,
            providers=providers,
            cuda_graphs=cuda_graphs,
            threads=threads,
            runtime=runtime,
            precision=precision,
            allow_engine_code=allow_engine_code,
            progress=progress,
        )
    if report is not None:
        say(f"Report: {report}", err=True)
    if as_json:
        print_json(document_of(results))
    else:
        print_verifications(results, all_stages)
    if not all(result.passed for result in results):
        click.get_current_context().exit(1)
