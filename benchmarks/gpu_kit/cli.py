"""The command line of ``tools/gpu_kit``."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from gpu_kit.machine import describe_machine, missing_gpu, slug
from gpu_kit.records import Record, markdown, read_results, write_results
from gpu_kit.steps import GROUPS, REPOSITORY, Settings, Worker, chosen_steps

PATH = click.Path(path_type=Path, resolve_path=True)


@click.command()
@click.option(
    "--only",
    metavar="WORDS",
    default="",
    help=f"Run these groups ({', '.join(GROUPS)}) or steps alone: build,operators,bench. Default: all.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="End after so many minutes in all: the steps come in the order of what they tell. Default: when all have run.",
)
@click.option("--quick", is_flag=True, help="Take fewer sizes, and measure each for 0.1 s instead of 0.5 s.")
@click.option(
    "--models",
    metavar="NAMES",
    default="Vim-Ti,Vim-S,Vim-B",
    show_default=True,
    help="Check and measure these whole models.",
)
@click.option(
    "--output",
    type=PATH,
    default=REPOSITORY / "benchmarks" / "results",
    help="Write the results to this folder. Default: benchmarks/results.",
)
@click.option(
    "--work",
    type=PATH,
    default=REPOSITORY / "build" / "gpu_kit",
    help="Keep the build, the models and the logs in this folder. Default: build/gpu_kit.",
)
@click.option(
    "--deps",
    type=PATH,
    help="Take the headers from this folder, which tools/fetch_headers made. Default: the build fetches them.",
)
@click.option(
    "--tensorrt-root",
    type=PATH,
    help="Look for TensorRT's include/ in this folder, to build the plugin. Default: the system's folders.",
)
@click.option("--commit", help="Name the commit of the sources, if they are no git checkout. Default: what git says.")
@click.option("--seed", type=int, help="Draw random numbers from this seed. Default: a new one each time.")
def main(
    only: str,
    minutes: float | None,
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
    again on the same day replace what the file says of them; the file is written after every step, and if the kit is
    interrupted. What this machine lacks is skipped, with the reason.

    The GPU's settings stay as they are.

    Exit codes: 0 all checks passed, 1 a check failed, 2 wrong options or no GPU.
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
        work,
        output,
        quick,
        secrets.randbits(31) if seed is None else seed,
        tuple(models.split(",")),
        deps,
        tensorrt_root,
    )
    machine = describe_machine(REPOSITORY, commit) | {"seed": str(settings.seed)}
    if machine["commit"].startswith("unknown"):
        raise click.UsageError("Wanted the commit of the sources, which are no git checkout; name it with --commit.")
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    path = output / f"{slug(machine['device'])}-{date}.json"
    before, records = read_results(path)
    if before.get("commit") != machine["commit"]:
        records = []
    ran: list[Record] = []
    with Worker(settings, None if minutes is None else time.monotonic() + 60 * minutes) as worker, _ended_in_order():
        for step in steps:
            click.echo(f"{step.name} ...", err=True)
            found: list[Record] = []
            try:
                found = worker.run(step)
            except BaseException:
                found = [*worker.found(step), Record(step.name, "the rest", "skipped", {}, "interrupted")]
                raise
            finally:
                ran += found
                records = [record for record in records if record.step != step.name] + found
                write_results(path, machine, records)
    click.echo(markdown(machine, ran))
    click.echo(f"\nwritten to {path}")
    sys.exit(any(record.status == "failed" for record in ran))


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the kit as Ctrl-C does: what was found is written, and the steps' process ends."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
