"""The command line of ``tools/gpu_kit``."""

from __future__ import annotations

import datetime
import secrets
import sys
from pathlib import Path

import click

from gpu_kit.machine import describe_machine, missing_gpu, slug
from gpu_kit.records import markdown, read_results, write_results
from gpu_kit.steps import REPOSITORY, Settings, chosen_steps, run_step

PATH = click.Path(path_type=Path, resolve_path=True)


@click.command()
@click.option("--only", metavar="WORDS", default="", help="Some groups or steps, as in: build,operators,bench.")
@click.option("--quick", is_flag=True, help="Fewer sizes, shorter measurements.")
@click.option("--models", default="Vim-Ti,Vim-S,Vim-B", show_default=True, help="Whole models to check and to measure.")
@click.option("--output", type=PATH, default=REPOSITORY / "benchmarks" / "results", help="The folder of the results.")
@click.option("--work", type=PATH, default=REPOSITORY / "build" / "gpu_kit", help="The folder of build and logs.")
@click.option("--deps", type=PATH, help="What tools/fetch_headers made, where there is no network.")
@click.option("--tensorrt-root", type=PATH, help="Where TensorRT's include/ is, to build the plugin.")
@click.option("--commit", help="Of this copy of the repository, where it is no git checkout.")
@click.option("--seed", type=int, help="Of the random numbers; another one each time where none is given.")
def main(
    only: str,
    quick: bool,
    models: str,
    output: Path,
    work: Path,
    deps: Path | None,
    tensorrt_root: Path | None,
    commit: str | None,
    seed: int | None,
) -> None:
    """Build, check and measure on this machine's NVIDIA GPU all that needs one.

    Tables go to standard output, progress to standard error, all numbers to OUTPUT/DEVICE-DATE.json. Steps that are run
    again on the same day replace what the file says of them. What this machine lacks is skipped, with the reason.

    Exit code: 0 all checks held, 1 one did not, 2 wrong options or no GPU. The card's settings stay as they are.
    """
    known = ("Vim-Ti", "Vim-S", "Vim-B")
    try:
        steps = chosen_steps([word for word in only.split(",") if word])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if unknown := set(models.split(",")) - set(known):
        raise click.UsageError(f"There is no model {min(unknown)!r}; there are {', '.join(known)}.")
    if sentence := missing_gpu():
        click.echo(sentence, err=True)
        sys.exit(2)

    settings = Settings(
        work, quick, secrets.randbits(31) if seed is None else seed, tuple(models.split(",")), deps, tensorrt_root
    )
    machine = describe_machine(REPOSITORY, commit) | {"seed": str(settings.seed)}
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    path = output / f"{slug(machine['device'])}-{date}.json"
    before, records = read_results(path)
    if before.get("commit") != machine["commit"]:
        records = []
    ran = []
    for step in steps:
        click.echo(f"{step.name} ...", err=True)
        found = run_step(step, settings)
        ran += found
        records = [record for record in records if record.step != step.name] + found
        write_results(path, machine, records)
    click.echo(markdown(machine, ran))
    click.echo(f"\nwritten to {path}")
    sys.exit(any(record.status == "failed" for record in ran))
