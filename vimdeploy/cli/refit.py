"""``vimdeploy refit``."""

from __future__ import annotations

from pathlib import Path

import click

from vimdeploy.cli.build import print_built
from vimdeploy.cli.console import phases
from vimdeploy.cli.options import PATH, engine_code_option, json_option, verbose_option


@click.command()
@click.argument("engine", type=PATH)
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Write this engine, and OUTPUT.json beside it.")
@engine_code_option
@verbose_option
@json_option
def refit(engine: Path, model: Path, output: Path, allow_engine_code: bool, as_json: bool) -> None:
    """Give an engine the weights of another ONNX file of the same network.

    ENGINE was built with vimdeploy build --refittable, for a GPU such as the first one here. MODEL is the same variant,
    exported at the same size and in the same precision from another checkpoint. No kernel is chosen anew.

    \b
    vimdeploy build vim_tiny.onnx -o vim_tiny.engine --refittable
    vimdeploy refit vim_tiny.engine finetuned.onnx -o finetuned.engine
    """
    from vimdeploy.api.refit import refit as refit_engine

    with phases("Refitting the engine"):
        made = refit_engine(engine, model, output, allow_engine_code=allow_engine_code)
    print_built(output, made, as_json)
