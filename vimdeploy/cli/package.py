"""``vimdeploy package``."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vimdeploy.cli.console import print_json, say
from vimdeploy.cli.options import PATH, json_option, operators_option, threads_option
from vimdeploy.gpu import DEVICES
from vimdeploy.serving import SERVERS

if TYPE_CHECKING:
    from vimdeploy.api.package import Packaged


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "-o",
    "--output",
    "repository",
    type=PATH,
    required=True,
    metavar="DIR",
    help="Put the model into this model repository; the folder is made if there is none.",
)
@click.option(
    "--for",
    "server",
    type=click.Choice(SERVERS),
    default="triton",
    show_default=True,
    help="Choose the server: NVIDIA's Triton Inference Server.",
)
@click.option(
    "--name", help="Give the model this name, by which clients ask for it. Default: the file's, without its suffix."
)
@click.option(
    "--model-version",
    "version",
    type=click.IntRange(1, (1 << 31) - 1),
    metavar="N",
    help="Give it this version. Default: the one after the newest, which the server then answers with.",
)
@click.option(
    "--served-from",
    metavar="DIR",
    help="Name the operator library by this path of the repository, such as /models in a container: the server wants "
    "its whole path. Default: the repository's path on this machine.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Let the server run up to this many requests together. Default: 8, or as many as an engine was built for.",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Open this many sessions side by side, on each GPU or on the CPU; give those on a CPU --threads each.",
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Choose the device of the server to run on. auto takes what the server has, or the CPU if the operator "
    "library was built without CUDA.",
)
@operators_option
@threads_option
@json_option
def package(
    model: Path,
    repository: Path,
    server: str,
    name: str | None,
    version: int | None,
    served_from: str | None,
    max_batch: int | None,
    instances: int,
    device: str,
    operators: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Put a file into the model repository of an inference server.

    MODEL is a file of vimdeploy export or vimdeploy build. Its folder in the repository gets config.pbtxt with dynamic
    batching and a warm-up, the names of the classes, the operator library, and a folder for the version. If the model
    is there already, a version is added, and config.pbtxt stays as it is.

    \b
    vimdeploy package vim_tiny.onnx -o repository --for triton
    vimdeploy package vim_tiny.onnx -o repository --served-from /models     for Triton's container
    vimdeploy package vim_tiny.engine -o repository --name vim_tiny_gpu

    The server runs the file by itself: vimdeploy is not needed there.
    """
    from vimdeploy.api.package import package as package_model

    packaged = package_model(
        model,
        repository,
        server=server,
        name=name,
        version=version,
        served_from=served_from,
        device=device,
        operators=operators,
        max_batch=max_batch,
        instances=instances,
        threads=threads,
    )
    if as_json:
        print_json(_document(packaged))
    else:
        _print(packaged)


def _document(packaged: Packaged) -> dict[str, object]:
    paths = {"folder": str(packaged.folder), "files": [str(path) for path in packaged.files]}
    return dataclasses.asdict(packaged) | paths


def _print(packaged: Packaged) -> None:
    say(f"{packaged.folder}: version {packaged.version}{'' if packaged.kept else _how(packaged)}")
    say(f"Serve it with: {shlex.join(packaged.command)}", err=True)


def _how(packaged: Packaged) -> str:
    """How the server is to run it."""
    where = {"cpu": "on the CPU", "cuda": "on GPUs", "auto": "on the GPUs that the server has, or else its CPU"}
    operators = f", operators computed by the {packaged.operators}" if packaged.operators else ""
    batch = f"up to {packaged.max_batch} requests together" if packaged.max_batch else "in the file's own batch"
    return f", {where[packaged.device]}{operators}, {batch}"
