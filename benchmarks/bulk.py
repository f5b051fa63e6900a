"""``vimdeploy run`` over a folder of pictures, beside what its sessions alone reach on tensors that are prepared.

    python benchmarks/bulk.py vim_tiny.onnx
    python benchmarks/bulk.py vim_tiny.onnx --count 500 --workers 2

The pictures are made: JPEGs of 500x375, as ImageNet's are on average. The sessions alone, one on all cores and one on a
thread that as many threads call as there are cores, are measured before the command and after it, because a machine's
clock drifts; the faster of the two counts, and the mean of both times. The command is a process of its own that starts,
reads, decodes, resizes, runs and writes a line for each picture; its peak of resident memory is told for a tenth of
the pictures too, to show that it does not grow with their number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from PIL import Image

import vimdeploy
from vimdeploy.inputs import random_inputs
from vimdeploy.machine import describe_machine, usable_cores
from vimdeploy.runtimes.base import BATCH, Session

SIZE = (500, 375)
MEASURED = """
import resource, sys
from vimdeploy.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
"""The command line, and then its peak of resident memory in KiB."""


def make_pictures(folder: Path, count: int) -> None:
    """Write JPEGs of soft colours and some noise, about as large as photographs' are."""
    generator = np.random.default_rng(0)
    for number in range(count):
        colours = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(SIZE)
        noise = generator.integers(-12, 13, (SIZE[1], SIZE[0], 3))
        pixels = np.clip(np.asarray(colours) + noise, 0, 255).astype(np.uint8)
        place = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place, quality=90)


def rate(session: Session, callers: int, seconds: float) -> float:
    """Pictures a second of a session that so many threads call with batches that are prepared."""
    batch = next(random_inputs(session.info, BATCH, 0).batches(BATCH))
    session.run(batch)
    begin = time.perf_counter()

    def calls(_: int) -> int:
        done = 0
        while time.perf_counter() - begin < seconds:
            session.run(batch)
            done += BATCH
        return done

    with ThreadPoolExecutor(callers) as pool:
        done = sum(pool.map(calls, range(callers)))
    return done / (time.perf_counter() - begin)


def run(model: Path, folder: Path, output: Path, options: list[str]) -> tuple[float, float, float]:
    """What the command over a folder takes: seconds, pictures a second as it counts once it has started, and MiB."""
    command = [sys.executable, "-c", MEASURED, "run", str(model), str(folder), "-o", str(output), "--top", "1"]
    begin = time.perf_counter()
    said = subprocess.run([*command, *options], check=True, stderr=subprocess.PIPE, text=True).stderr
    rates = re.findall(r"([\d.]+) a second", said)
    return time.perf_counter() - begin, float(rates[-1]), int(said.split()[-1]) / 1024


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(min=10), default=5000, show_default=True, help="Make so many pictures.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Measure each session alone so long.")
@click.option("--workers", help="Hand this on to the command. Default: it measures what is best.")
def main(model: Path, count: int, seconds: float, workers: str | None) -> None:
    """Compare vimdeploy run on MODEL, a classifier, with its sessions alone."""
    machine = describe_machine()
    click.echo(f"{machine['processor']}, {machine['cores']} cores; load {os.getloadavg()[0]:.1f}")
    options = [] if workers is None else ["--workers", workers]
    everywhere, single = vimdeploy.load(model, "cpu"), vimdeploy.load(model, "cpu", threads=1)

    def alone() -> float:
        both = rate(everywhere, 1, seconds), rate(single, usable_cores(), seconds)
        click.echo(f"sessions alone: {both[0]:.1f} a second on all cores, {both[1]:.1f} by callers of one thread")
        return max(both)

    with tempfile.TemporaryDirectory() as scratch:
        pictures = {number: Path(scratch, str(number)) for number in (count // 10, count)}
        for number, folder in pictures.items():
            folder.mkdir()
            make_pictures(folder, number)
        rates = [alone()]
        for number, folder in pictures.items():
            took, started, peak = run(model, folder, Path(scratch, f"{number}.csv"), options)
            click.echo(
                f"run, {number} pictures: {number / took:.1f} a second, {started:.1f} once it has started, "
                f"{took:.0f} s, peak {peak:.0f} MiB"
            )
        rates.append(alone())
        mean = sum(rates) / len(rates)
        click.echo(
            f"run reaches {number / took / mean:.1%} of the sessions alone, {started / mean:.1%} once it has started"
        )


if __name__ == "__main__":
    main()
