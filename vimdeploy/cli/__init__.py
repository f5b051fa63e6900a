"""The command line: parse, call, print. The only place that prints or picks an exit code.

Exit codes: 0 good, 1 a check failed, 2 wrong input or usage, 3 a fault of vimdeploy itself, 130 interrupted. Answers go
to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import click

from vimdeploy.cli.bench import bench
from vimdeploy.cli.build import build
from vimdeploy.cli.console import every_name_printed, say, warnings_as_lines
from vimdeploy.cli.convert import convert
from vimdeploy.cli.doctor import doctor
from vimdeploy.cli.export import export
from vimdeploy.cli.extract import extract
from vimdeploy.cli.inspect import inspect
from vimdeploy.cli.models import models
from vimdeploy.cli.package import package
from vimdeploy.cli.quantize import quantize
from vimdeploy.cli.refit import refit
from vimdeploy.cli.run import run
from vimdeploy.cli.signals import ended_by_signals, exit_code
from vimdeploy.cli.verify import verify
from vimdeploy.errors import ExecutionError, ParityError, VimdeployError
from vimdeploy.text import reason_of

_TRACEBACK = "VIMDEPLOY_TRACEBACK"
"""The environment variable that says whether to show a traceback of an exception that nobody expected."""


class _Group(click.Group):
    """Turns whatever ends a command into one line and an exit code, and warnings of vimdeploy into lines."""

    def invoke(self, ctx: click.Context) -> Any:
        with every_name_printed(), ended_by_signals(), warnings_as_lines():
            try:
                result = super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                say("Interrupted.", err=True)
                ctx.exit(130)
            except Exception as error:
                if (code := exit_code()) is not None:  # what a library has made of a signal
                    ctx.exit(code)
                self._end(ctx, error)
            if (code := exit_code()) is not None:  # a library has swallowed it
                ctx.exit(code)
            return result

    def _end(self, ctx: click.Context, error: Exception) -> None:
        if isinstance(error, VimdeployError):
            say(f"Error: {error}", err=True)
            ctx.exit(1 if isinstance(error, (ParityError, ExecutionError)) else 2)
        if isinstance(error, MemoryError):
            say("Error: There is not enough memory.", err=True)
            ctx.exit(1)
        if os.environ.get(_TRACEBACK):
            raise error
        say(_fault(error), err=True)
        ctx.exit(3)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use


def _fault(error: Exception) -> str:
    """The sentence for an exception that nobody expected."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"Error: This is a fault of vimdeploy: {type(error).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}: {reason_of(error)}. Please report it; with {_TRACEBACK}=1 in the environment, the command "
        "shows where it comes from."
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="vimdeploy")
def main() -> None:
    """Deploy Vision Mamba: a checkpoint becomes one ONNX file that runs on any machine, with proof.

    \b
    vimdeploy models                                               list the variants
    vimdeploy export vim_tiny --pretrained -o vim.onnx             checkpoint to ONNX, checked
    vimdeploy convert vim.onnx -o half.onnx --precision fp16       float32 to float16, checked
    vimdeploy quantize vim.onnx -o vim8.onnx --images DIR          Linear layers to int8
    vimdeploy build vim.onnx -o vim.engine                         ONNX to an engine for a GPU
    vimdeploy refit vim.engine new.onnx -o new.engine              other weights into an engine
    vimdeploy run vim.onnx cat.jpg                                 a picture to answers
    vimdeploy extract features.onnx DIR -o vectors                 many pictures to vectors
    vimdeploy verify vim.onnx -c C.pth                             proof that the answers are PyTorch's
    vimdeploy bench vim.onnx other.onnx                            time and memory, side by side
    vimdeploy package vim.onnx -o repository                       a folder for Triton Inference Server

    Exit codes: 0 good, 1 a check failed, 2 wrong input or usage, 3 a fault of vimdeploy itself, 130 interrupted.
    """


_MAKING = (models, export, convert, quantize, build, refit)
_USING = (run, extract, verify, bench, package, inspect, doctor)
for _command in (*_MAKING, *_USING):
    main.add_command(_command)
