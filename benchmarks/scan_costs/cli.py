"""``tools/scan_costs``: counts what the scan's CUDA kernels cost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from scan_costs.hot_path import NoSuchPathError
from scan_costs.machine_code import ToolMissingError, architectures
from scan_costs.scan_kernels import FORMS, TYPES, ScanKernel, scan_kernels, table_of

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


@click.command()
@click.option(
    "-a",
    "--architecture",
    "wanted",
    type=int,
    multiple=True,
    metavar="SM",
    help="Count for this architecture, such as 90; repeat for more (default: all that nvcc knows, from 75 on).",
)
@click.option(
    "--type",
    "types",
    type=click.Choice(tuple(TYPES.values())),
    multiple=True,
    help="Count this type alone (default: all).",
)
@click.option("--form", "forms", type=click.Choice(FORMS), multiple=True, help="Count this form alone (default: all).")
@click.option("--states", type=int, multiple=True, help="Count kernels of so many states alone (default: all).")
@click.option(
    "--rank", type=click.IntRange(min=1), default=12, help="Rank of the step sizes (default 12, that of Vim-Ti)."
)
@click.option(
    "--plugins",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=PLUGINS,
    help="Take the kernels' sources from this folder, such as that of another checkout (default: this checkout's).",
)
@click.option("--table", is_flag=True, help="Print the rows of plugins/scan/cuda/kernel_costs.h instead.")
def main(
    wanted: tuple[int, ...],
    types: tuple[str, ...],
    forms: tuple[str, ...],
    states: tuple[int, ...],
    rank: int,
    plugins: Path,
    table: bool,
) -> None:
    """Count what the scan's CUDA kernels cost, in their machine code; needs nvcc and nvdisasm, but no GPU.

    For a token, one direction and 32 channels (a warp, or half of one that has two channels a thread): the
    instructions that are issued, how many of them the float32 lanes execute, clocks of the special function unit of a
    scheduler, and clocks of the multiprocessor's shared memory, if a number that all lanes read takes a quarter of
    different ones, and in brackets if it takes half.
    """
    try:
        for architecture in wanted or architectures():
            kernels = [
                kernel
                for kernel in scan_kernels(plugins, architecture)
                if (not types or kernel.type in types)
                and (not forms or kernel.form in forms)
                and (not states or kernel.states in states)
            ]
            for line in table_of(kernels) if table else _lines(kernels, architecture, rank):
                click.echo(line)
    except (NoSuchPathError, ToolMissingError) as error:
        raise click.ClickException(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"{error.cmd[0]} failed: {error.stderr.strip()}") from error


def _lines(kernels: Sequence[ScanKernel], architecture: int, rank: int) -> Iterator[str]:
    header = ("kernel", "type", "form", "states", "channels", "sm", "registers", "spills")
    yield f"| {' | '.join((*header, 'issued', 'float32', 'special', 'shared'))} |"
    yield "|---" * (len(header) + 4) + "|"
    for k in kernels:
        cost = k.cost(rank)
        kind = (k.name, k.type, k.form, k.states, k.channels, architecture, k.kernel.registers, k.kernel.spill_bytes)
        counts = (f"{cost.issued:.1f}", f"{cost.float32:.1f}", f"{cost.special:.0f}")
        shared = f"{cost.shared:.1f} ({cost.shared_unpacked:.1f})"
        yield f"| {' | '.join(map(str, (*kind, *counts, shared)))} |"
