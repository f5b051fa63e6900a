"""``vimdeploy doctor``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from vimdeploy.cli.console import print_json, print_table
from vimdeploy.cli.options import json_option


@click.command()
@click.option(
    "--library-path",
    "library",
    type=click.Choice(["onnxruntime", "tensorrt"]),
    is_flag=False,
    flag_value="onnxruntime",
    help="Print the path of the compiled operators for this runtime and nothing else, for programs that load them "
    "without Python. Without a name: for onnxruntime.",
)
@click.option(
    "--cmake-path",
    "cmake",
    is_flag=True,
    help="Print the folder for CMAKE_PREFIX_PATH and nothing else, so that find_package(vimdeploy) of a C++ project "
    "finds the compiled operators and their header.",
)
@json_option
def doctor(library: str | None, cmake: bool, as_json: bool) -> None:
    """Show what this machine can run and what is missing, with the command that installs it.

    The exit code is 1 if something that is installed does not work.
    """
    if library is not None:
        _print_path(_library(library), as_json)
        return
    if cmake:
        _print_path(_cmake_prefix(), as_json)
        return
    from vimdeploy.doctor import PROBLEM, examine

    findings = examine()
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [
            (f.name, f.state, f.found + (f"; get it with: {f.cure}" if f.cure and f.state != "ready" else ""))
            for f in findings
        ]
        print_table(("what", "state", "found"), rows)
    if any(finding.state == PROBLEM for finding in findings):
        click.get_current_context().exit(1)


def _library(runtime: str) -> Path:
    from vimdeploy.errors import ConfigError
    from vimdeploy.installation import rebuild_command
    from vimdeploy.libraries import library_path

    path = library_path(runtime)
    if path is None:
        lack = "a C++ compiler is" if runtime == "onnxruntime" else "CUDA's compiler nvcc and TensorRT's headers are"
        raise ConfigError(
            f"Wanted the operators for {runtime}, this installation of vimdeploy has none; build it again where "
            f"{lack}: {rebuild_command()}"
        )
    return path


def _cmake_prefix() -> Path:
    from vimdeploy.errors import ConfigError
    from vimdeploy.installation import rebuild_command
    from vimdeploy.libraries import cmake_prefix

    prefix = cmake_prefix()
    if prefix is None:
        raise ConfigError(
            "Wanted the package that CMake finds, this installation of vimdeploy has none; build it again where a C++ "
            f"compiler is: {rebuild_command()}"
        )
    return prefix


def _print_path(path: Path, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(path)
