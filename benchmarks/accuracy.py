"""How well the trained samples answer in every precision: python benchmarks/accuracy.py > docs/accuracy.md.

The files are made by the commands that a user has; they stand in the document. Some minutes on one core.
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import jaccard_score

from vimdeploy.artifact import open_artifact
from vimdeploy.checkpoint import load_checkpoint
from vimdeploy.errors import ConfigError
from vimdeploy.inputs import folder_inputs
from vimdeploy.machine import describe_machine
from vimdeploy.model_info import ModelInfo
from vimdeploy.networks import network_of_info
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Arrays, Session
from vimdeploy.runtimes.eager import EagerSession
from vimdeploy.runtimes.onnxruntime import sessions_of_all_operators
from vimdeploy.tasks.base import Answer, Proportion
from vimdeploy.tasks.detections import Found

ROOT = Path(__file__).resolve().parent.parent
BATCH = 100
FILES = {"": "float32", "_fp16": "float16", "_bf16": "bfloat16", "_int8": "INT8"}
COMMANDS = """\
python samples/{folder}/{writer} {folder}_test
python samples/{folder}/{writer} {folder}_calibration calibration
vimdeploy export samples/{folder}/{name}.json -c samples/{folder}/{name}.safetensors{task} -o {name}.onnx
vimdeploy convert {name}.onnx -o {name}_fp16.onnx --precision fp16 --images {folder}_calibration
vimdeploy convert {name}.onnx -o {name}_bf16.onnx --precision bf16 --images {folder}_calibration
vimdeploy quantize {name}.onnx -o {name}_int8.onnx --images {folder}_calibration
"""
HEADER = ("file", "computed by", "MB")


class Scores(ABC):
    """How a sample's answers are judged."""

    header: ClassVar[tuple[str, ...]]
    """The names of the columns that ``cells`` fills."""

    @abstractmethod
    def answers(self, session: Session) -> Any:
        """What a session says of all pictures."""

    @abstractmethod
    def cells(self, found: Any, wanted: Any) -> Iterator[str]:
        """The numbers of a row.

        Args:
            found: the answers of what was run.
            wanted: PyTorch's; the same object if it was PyTorch that was run.
        """


@dataclass(frozen=True)
class ClassScores(Scores):
    """A class for each picture."""

    batches: Sequence[Arrays]
    classes: npt.NDArray[np.int64]
    """The right ones (n,)."""

    header = ("right", "accuracy (95 % interval)", "same answer", "lost, won", "largest error")

    @classmethod
    def read(cls, folder: Path, info: ModelInfo) -> ClassScores:
        """The pictures of a folder with a sub-folder per class."""
        inputs = folder_inputs(folder, info)
        assert inputs.classes is not None
        return cls(list(inputs.batches(BATCH)), inputs.classes)

    def answers(self, session: Session) -> FloatArray:
        """Logits (n, classes)."""
        return np.concatenate([session.run(batch)["logits"] for batch in self.batches])

    def cells(self, found: FloatArray, wanted: FloatArray) -> Iterator[str]:
        """By the first class."""
        answers, wanted_answers = found.argmax(1), wanted.argmax(1)
        right, wanted_right = answers == self.classes, wanted_answers == self.classes
        accuracy = Proportion(int(right.sum()), len(right))
        low, high = accuracy.interval
        yield f"{accuracy.count} of {accuracy.total}"
        yield f"{accuracy.part:.2%} ({low:.2%} to {high:.2%})"
        if found is wanted:
            yield from ["", "", ""]
            return
        yield f"{(answers == wanted_answers).mean():.2%}"
        yield f"{(wanted_right & ~right).sum()}, {(right & ~wanted_right).sum()}"
        yield f"{np.abs(found - wanted).max() / wanted.std():.1e}"


@dataclass(frozen=True)
class PixelScores(Scores):
    """A class for each pixel."""

    pictures: Sequence[Path]
    classes: npt.NDArray[np.int64]
    """The right ones (n, H, W)."""

    header = ("mean IoU", "pixels right", "same class as PyTorch")

    @classmethod
    def read(cls, folder: Path, info: ModelInfo) -> PixelScores:
        """The pictures of a folder beside which a file of COCO's format says what is on them."""
        truth = coco_from_file(folder)
        classes = []
        for image in truth.loadImgs(truth.getImgIds()):
            of_pixels = np.zeros((image["height"], image["width"]), np.int64)  # 0 is the background
            for annotation in truth.loadAnns(truth.getAnnIds(image["id"])):
                of_pixels[truth.annToMask(annotation) == 1] = 1 + annotation["category_id"]
            classes.append(of_pixels)
        return cls(sorted(folder.glob("*.png")), np.stack(classes))

    def answers(self, session: Session) -> npt.NDArray[np.integer[Any]]:
        """Classes (n, H, W)."""
        return np.stack([session.predict(picture).arrays()["classes"] for picture in self.pictures])

    def cells(self, found: npt.NDArray[np.integer[Any]], wanted: npt.NDArray[np.integer[Any]]) -> Iterator[str]:
        """By the pixels of all pictures together."""
        yield f"{jaccard_score(self.classes.ravel(), found.ravel(), average='macro'):.2%}"
        yield f"{(found == self.classes).mean():.2%}"
        yield "" if found is wanted else f"{(found == wanted).mean():.2%}"


@dataclass(frozen=True)
class ObjectScores(Scores):
    """Boxes and masks of objects."""

    pictures: Sequence[Path]
    truth: COCO
    """What is on them, in their order."""

    header = ("box AP", "box AP50", "mask AP", "mask AP50", "detections", "in common with PyTorch")

    @classmethod
    def read(cls, folder: Path, info: ModelInfo) -> ObjectScores:
        """The pictures of a folder beside which a file of COCO's format says what is on them."""
        return cls(sorted(folder.glob("*.png")), coco_from_file(folder))

    def answers(self, session: Session) -> list[Answer]:
        """The detections in each picture."""
        return [session.predict(picture) for picture in self.pictures]

    def cells(self, found: Sequence[Answer], wanted: Sequence[Answer]) -> Iterator[str]:
        """By COCO's average precision."""
        results = [
            line for image, answer in zip(self.truth.getImgIds(), found, strict=True) for line in lines(answer, image)
        ]
        for kind in ("bbox", "segm"):
            yield from (f"{value:.1%}" for value in average_precision(self.truth, results, kind))
        yield str(len(results))
        comparison = Found(())
        comparison.add(wanted, found)
        yield "" if found is wanted else f"{100 - comparison.points_lost():.2f}%"


def coco_from_file(folder: Path) -> COCO:
    """What is on the pictures of a folder."""
    with contextlib.redirect_stdout(sys.stderr):
        return COCO(str(folder.with_suffix(".json")))


def lines(answer: Answer, image: int) -> list[dict[str, Any]]:
    """A picture's detections as COCO's results."""
    found = answer.results(image)
    assert found is not None
    return found


def average_precision(truth: COCO, results: list[dict[str, Any]], kind: str) -> tuple[float, float]:
    """COCO's AP and AP50 of boxes, ``bbox``, or masks, ``segm``; 0 if nothing was found."""
    if not results:
        return 0.0, 0.0
    with contextlib.redirect_stdout(sys.stderr):
        evaluation = COCOeval(truth, truth.loadRes([dict(line) for line in results]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@dataclass(frozen=True)
class Sample:
    """A trained model, and the script that writes its pictures as files."""

    name: str
    folder: str
    writer: str
    pictures: str
    """Which ones are counted, in words."""
    scores: Callable[[Path, ModelInfo], Scores]
    task: str = ""
    """The options of ``vimdeploy export`` that name it."""


_SHAPES = "200 held-out pictures of shapes, letters and digits on photographs"
SAMPLES = (
    Sample("digits", "digits", "data.py", "the 450 held-out digits of scikit-learn", ClassScores.read),
    Sample("fashion", "fashion", "pictures.py", "the first 2000 test pictures of Fashion-MNIST", ClassScores.read),
    Sample("segmentation", "shapes", "scenes.py", _SHAPES, PixelScores.read, " --task segment"),
    Sample("detection", "shapes", "scenes.py", _SHAPES, ObjectScores.read, " --task detect"),
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
- **mean IoU** of the classes, the background among them, over the pixels of all pictures, by scikit-learn's
  `jaccard_score`.
- **AP** is COCO's average precision, the mean over IoUs of 0.50 to 0.95, and **AP50** the one at 0.50, by pycocotools.
- **in common with PyTorch**: F1 of the detections of both, each of which counts as much as its score.
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
    scores = sample.scores(folder / f"{sample.folder}_test", info)
    weights = ROOT / "samples" / sample.folder / f"{sample.name}.safetensors"
    wanted = scores.answers(EagerSession(network_of_info(info, load_checkpoint(weights))))
    print(f"\n## {sample.name.capitalize()}: {sample.pictures}\n")
    print_row([*HEADER, *scores.header])
    print_row(["---", "---", *["---:"] * (1 + len(scores.header))])
    print_row(["checkpoint", "PyTorch", megabytes(weights), *scores.cells(wanted, wanted)])
    for suffix, precision in FILES.items():
        path = folder / f"{sample.name}{suffix}.onnx"
        for session in sessions(path):
            cells = scores.cells(scores.answers(session), wanted)
            print_row([precision, description(session), megabytes(path), *cells])
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
    return f"ONNX Runtime{' on the GPU' if session.runs_on_gpu else ''}, {session.operators}"


def megabytes(file: Path) -> str:
    """The size of a file."""
    return f"{file.stat().st_size / 1e6:.2f}"


def print_row(texts: Sequence[str]) -> None:
    """A line of a table in Markdown."""
    print(f"| {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
