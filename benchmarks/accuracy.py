"""How well the trained samples answer in every precision: python benchmarks/accuracy.py > docs/accuracy.md.

The files are made by the commands that a user has; they stand in the document. Some minutes on one core.
"""

from __future__ import annotations

import datetime
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vimdeploy.artifact import open_artifact
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import ConfigError
from vimdeploy.inputs import folder_inputs
from vimdeploy.machine import describe_machine
from vimdeploy.networks import network_of_info
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Arrays, Session
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators
from vimdeploy.tasks.base import Proportion

ROOT = Path(__file__).resolve().parent.parent
BATCH = 100
FILES = {"": "float32", "_fp16": "float16", "_bf16": "bfloat16", "_int8": "INT8"}
COMMANDS = """\
python samples/{name}/{writer} {name}_test
python samples/{name}/{writer} {name}_calibration calibration
vimdeploy export samples/{name}/{name}.json -c samples/{name}/{name}.safetensors -o {name}.onnx
vimdeploy convert {name}.onnx -o {name}_fp16.onnx --precision fp16 --images {name}_calibration
vimdeploy convert {name}.onnx -o {name}_bf16.onnx --precision bf16 --images {name}_calibration
vimdeploy quantize {name}.onnx -o {name}_int8.onnx --images {name}_calibration
"""
HEADER = ("file", "computed by", "MB", "right", "accuracy (95 % interval)", "same answer", "lost, won", "largest error")


@dataclass(frozen=True)
class Sample:
    """A trained model, and the script that writes its pictures as files."""

    name: str
    writer: str
    pictures: str
    """Which ones are counted, in words."""


SAMPLES = (
    Sample("digits", "data.py", "the 450 held-out digits of scikit-learn"),
    Sample("fashion", "pictures.py", "the first 2000 test pictures of Fashion-MNIST"),
)


def main() -> None:
    """Print the document."""
    machine = describe_machine()
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("vimdeploy", "torch", "onnxruntime"))
    print(f"""\
# Accuracy of the trained samples

Made by `python benchmarks/accuracy.py > docs/accuracy.md` on {datetime.date.today()}, on one thread of an
{machine["processor"]} (the operator library computes with {machine["instruction_set"]}).
{versions}, Python {machine["python"]}.

- **right**: pictures whose class is found. The interval is Wilson's, at 95 % confidence: where the accuracy on pictures
  that nobody has seen may lie.
- **same answer**: pictures whose first class is PyTorch's. Of the others, **lost** were right there and are wrong now,
  **won** the other way round.
- **largest error** of a logit, in parts of the standard deviation of PyTorch's logits.
- float16, bfloat16 and INT8 are made with training pictures; the pictures that are counted had no part in it.
- On a GPU: {"rows of their own" if machine["gpus"] else "not measured, no GPU was at hand"}.""")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "samples").symlink_to(ROOT / "samples")
        for sample in SAMPLES:
            print_sample(sample, Path(folder))


def print_sample(sample: Sample, folder: Path) -> None:
    """Make the files of a sample, and print a chapter on them."""
    commands = COMMANDS.format(**vars(sample))
    for command in commands.splitlines():
        run(command, folder)
    info = open_artifact(folder / f"{sample.name}.onnx").info
    inputs = folder_inputs(folder / f"{sample.name}_test", info)
    classes = inputs.classes
    assert classes is not None  # a sub-folder per class was written
    batches = list(inputs.batches(BATCH))
    weights = ROOT / "samples" / sample.name / f"{sample.name}.safetensors"
    eager = EagerSession(network_of_info(info, load_checkpoint(weights)))
    wanted = logits(eager, batches)
    print(f"\n## {sample.name.capitalize()}: {sample.pictures}\n")
    print_row(HEADER)
    print_row(["---", "---", *["---:"] * (len(HEADER) - 2)])
    print_row(["checkpoint", "PyTorch", *cells(weights, wanted, wanted, classes)])
    for suffix, precision in FILES.items():
        path = folder / f"{sample.name}{suffix}.onnx"
        for session in sessions(path):
            print_row([precision, description(session), *cells(path, logits(session, batches), wanted, classes)])
    print(f"\n```sh\n{commands}```")


def run(command: str, folder: Path) -> None:
    """Run a command of the document; what it prints is no part of the document."""
    program, *arguments = shlex.split(command)
    programs = {"python": sys.executable, "vimdeploy": str(Path(sys.executable).with_name("vimdeploy"))}
    subprocess.run([programs[program], *arguments], cwd=folder, stdout=sys.stderr, check=True)


def sessions(path: Path) -> Iterator[Session]:
    """A session for each way in which this machine can run a file."""
    artifact = open_artifact(path)
    yield from sessions_of_all_operators(artifact, threads=1)
    try:
        yield from sessions_of_all_operators(artifact, device="cuda")
    except ConfigError as error:
        print(f"{path.name} was not run on a GPU: {error}", file=sys.stderr)


def description(session: Session) -> str:
    """What computes: ONNX Runtime, on a GPU if it is one, with our library or without."""
    return f"ONNX Runtime{' on the GPU' if session.device == 'cuda' else ''}, {session.operators}"


def logits(session: Session, batches: Sequence[Arrays]) -> FloatArray:
    """(n, classes)."""
    return np.concatenate([session.run(batch)["logits"] for batch in batches])


def cells(file: Path, found: FloatArray, wanted: FloatArray, classes: npt.NDArray[np.int64]) -> Iterator[str]:
    """The numbers of a row.

    Args:
        file: what was run.
        found: its logits (n, classes).
        wanted: PyTorch's.
        classes: the right ones (n,).
    """
    answers, wanted_answers = found.argmax(1), wanted.argmax(1)
    right, wanted_right = answers == classes, wanted_answers == classes
    accuracy = Proportion(int(right.sum()), len(right))
    low, high = accuracy.interval
    yield f"{file.stat().st_size / 1e6:.2f}"
    yield f"{accuracy.count} of {accuracy.total}"
    yield f"{accuracy.part:.2%} ({low:.2%} to {high:.2%})"
    if found is wanted:
        yield from ["", "", ""]
        return
    yield f"{(answers == wanted_answers).mean():.2%}"
    yield f"{(wanted_right & ~right).sum()}, {(right & ~wanted_right).sum()}"
    yield f"{np.abs(found - wanted).max() / wanted.std():.1e}"


def print_row(texts: Sequence[str]) -> None:
    """A line of a table in Markdown."""
    print(f"| {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
