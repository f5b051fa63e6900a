"""What a file that takes pictures as bytes costs and saves, beside the same model that takes them normalised.

    python benchmarks/uint8_input.py vim_tiny
    python benchmarks/uint8_input.py vim_tiny -c vim_tiny.pth --threads 1 --rounds 100

Both files are exported and compared with PyTorch. Then they take turns (A B A B ...) in one process, on JPEGs of
500x375 that are made: preparing a picture, which is decoding, resizing and, for one of the files, normalising; running
the model on what was prepared; and the whole answer, from a file's bytes to class names. Printed are medians and least
times.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

import vimdeploy
from vimdeploy.api.export import Exported
from vimdeploy.inputs import picture_windows
from vimdeploy.machine import describe_machine
from vimdeploy.runtimes.base import Session
from vimdeploy.tasks.base import Limits

SIZE = (500, 375)
PICTURES = 8
STEPS = ("prepare", "run", "answer")


def make_pictures() -> list[bytes]:
    """JPEG files of soft colours and some noise, about as large as photographs' are."""
    generator, files = np.random.default_rng(0), []
    for _ in range(PICTURES):
        colours = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(SIZE)
        noise = generator.integers(-12, 13, (SIZE[1], SIZE[0], 3))
        file = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(colours) + noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def prepared(session: Session, picture: bytes) -> dict[str, Any]:
    """A picture as a session's model takes it, a batch of one."""
    arrays, _ = next(picture_windows([picture], session.info, None, Limits()))
    return {name: array[None] for name, array in arrays.items()}


def milliseconds(work: Callable[[], Any]) -> float:
    """How long it took."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def measure(sessions: Sequence[Session], pictures: Sequence[bytes], rounds: int) -> list[dict[str, list[float]]]:
    """The times of each session's steps in every round, after one that warms up; a picture each, in turn."""
    times: list[dict[str, list[float]]] = [{step: [] for step in STEPS} for _ in sessions]
    for number in range(rounds + 1):
        picture = pictures[number % len(pictures)]
        for session, found in zip(sessions, times, strict=True):
            arrays = prepared(session, picture)
            found["prepare"].append(milliseconds(partial(prepared, session, picture)))
            found["run"].append(milliseconds(partial(session.run, arrays)))
            found["answer"].append(milliseconds(partial(session.predict, picture)))
    return [{step: taken[1:] for step, taken in found.items()} for found in times]


def largest_error(made: Exported) -> float:
    """The largest error of any output against PyTorch, in standard deviations."""
    return max(output.largest / output.std for result in made.parity for output in result.outputs)


def largest_difference(sessions: Sequence[Session], pictures: Sequence[bytes]) -> float:
    """How far apart the outputs of two sessions are at most."""
    return max(
        float(np.abs(one[name].astype(np.float64) - other[name]).max(initial=0))
        for picture in pictures
        for one, other in [[session.run(prepared(session, picture)) for session in sessions]]
        for name in one
    )


@click.command()
@click.argument("model")
@click.option("-c", "--checkpoint", help="Take these weights. Default: random ones, for which times are the same.")
@click.option("--task", default="classification", show_default=True, help="What the files answer.")
@click.option("--threads", type=int, help="Threads of the sessions. Default: all cores.")
@click.option("--rounds", default=50, show_default=True, help="Turns that each file takes.")
def main(model: str, checkpoint: str | None, task: str, threads: int | None, rounds: int) -> None:
    """Export MODEL, a variant, in both forms, measure and print."""
    seed = 0 if checkpoint is None else None
    with tempfile.TemporaryDirectory() as folder:
        files = [
            vimdeploy.export(
                model,
                Path(folder) / f"{takes}.onnx",
                checkpoint=checkpoint,
                random_weights=seed,
                task=task,
                uint8_input=takes == "uint8",
            )
            for takes in ("float32", "uint8")
        ]
        sessions = [vimdeploy.load(made.artifact, device="cpu", threads=threads) for made in files]
    pictures = make_pictures()
    times = measure(sessions, pictures, rounds)
    machine = describe_machine()
    click.echo(f"{sessions[0].info.name}, {sessions[0].description}, {threads or 'all'} threads; ms, median (least)")
    click.echo(f"{machine['processor']}, {machine['cores']} cores, ONNX Runtime {machine['versions']['onnxruntime']}")
    click.echo(f"{'input':8} {'error':>8} {'file bytes':>11} {'input bytes':>11}" + "".join(f"{s:>18}" for s in STEPS))
    for made, session, found in zip(files, sessions, times, strict=True):
        picture = session.info.inputs[0]
        steps = "".join(f"{statistics.median(found[s]):9.3f} ({min(found[s]):6.3f})" for s in STEPS)
        size = prepared(session, pictures[0])[picture.name].nbytes
        click.echo(f"{picture.type:8} {largest_error(made):8.1e} {made.artifact.bytes:11,} {size:11,}{steps}")
    ratios = "  ".join(
        f"{step} {statistics.median(times[1][step]) / statistics.median(times[0][step]):.3f}" for step in STEPS
    )
    click.echo(f"uint8 over float32: {ratios}")
    click.echo(f"Outputs for the same pictures differ by {largest_difference(sessions, pictures):.1e} at most.")


if __name__ == "__main__":
    main()
