"""All that makes one task differ from another: its outputs, its answers, and how the answers of two sides compare.

Needs neither torch nor a runtime; only ``Task.head`` imports torch's modules, when it is called.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.models.stages import StageSpec
from vimdeploy.recipe import CROP

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors, by their names."""
Outputs = Mapping[str, npt.NDArray[Any]]
"""What a session gives, by the outputs' names; the first axis of each is the batch."""

_Z95 = 1.959964
"""Standard normal deviation that 95 % of all values stay within."""


MOST_DETECTIONS = 1000
"""Objects that may be asked for in one picture: as many as there are proposals."""


@dataclass(frozen=True)
class Limits:
    """Which objects are wanted of a picture, of all that a model of detection thinks it might see.

    Raises:
        ConfigError: if nothing can be found within them.
    """

    score_threshold: float = 0.05
    """The score above which it counts; detectron2's and COCO's usual one, because their measures want doubtful ones
    too."""
    max_detections: int = 100
    """At most so many, the best: as many as COCO's measure looks at."""

    def __post_init__(self) -> None:
        score, most = self.score_threshold, self.max_detections
        if isinstance(score, bool) or not isinstance(score, Real) or not 0 <= score < 1:
            raise ConfigError(f"score_threshold must be from 0 to below 1, found {score!r}.")
        if isinstance(most, bool) or not isinstance(most, Integral) or not 1 <= most <= MOST_DETECTIONS:
            raise ConfigError(f"max_detections must be from 1 to {MOST_DETECTIONS}, found {most!r}.")


@dataclass(frozen=True)
class Proportion:
    """So many out of so many, and what that says of pictures that were not seen."""

    count: float
    """A whole number, but of means: the sum of what is averaged."""
    total: int

    @property
    def part(self) -> float:
        """count / total; NaN of nothing."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval for the true part, at 95 % confidence: fit for parts of 0 and 1 too."""
        if not self.total:
            return 0.0, 1.0
        n, z2 = self.total, _Z95**2
        middle = (self.count + z2 / 2) / (n + z2)
        half = _Z95 / (n + z2) * math.sqrt(self.count * (n - self.count) / n + z2 / 4)
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Measure:
    """One number that says how the answers of two sides compare."""

    name: str
    """``same top-1``, ``top-1 correct``."""
    candidate: Proportion
    """The candidate's; that of both, if it counts what they have in common."""
    reference: Proportion | None = None
    """The same of the reference; None if the measure counts what both have in common."""


@dataclass(frozen=True)
class Change:
    """An image to which the two sides give different answers."""

    image: str
    """Its path, or ``input 3``."""
    reference: str
    """The reference's answer in a few words."""
    candidate: str
    truth: str = ""
    """The right answer, if it is known."""
    margins: tuple[float, float] | None = None
    """By how much the reference's and the candidate's answer lead before their second best; None if there is none."""
    png: bytes = b""
    """The picture in small; empty for random inputs."""
    sides: tuple[Answer, Answer] | None = None
    """The answers of the reference and of the candidate, to be drawn, and no larger than that needs; None if they are
    no pictures, or drawn."""
    drawn: tuple[bytes, bytes] | None = None
    """Both on what the models saw of the picture, as JPEG files."""


@dataclass(frozen=True)
class Agreement:
    """How the answers of two sides compare, over all images."""

    measures: tuple[Measure, ...] = ()
    changes: tuple[Change, ...] = ()
    """The first of them."""
    changed: int = 0
    """All of them."""
    margin: str = ""
    """What ``Change.margins`` are, for people; empty if there are none."""
    drawing: str = ""
    """How ``Change.drawn`` is to be read, in a sentence; empty if nothing is drawn."""


class Answer(ABC):
    """What a model says of one picture."""

    columns: tuple[str, ...]
    """Headers of the table."""

    @abstractmethod
    def rows(self) -> list[tuple[str, ...]]:
        """The answer as lines of a table."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The answer as JSON has it."""

    @property
    def not_finite(self) -> str:
        """Which numbers of the answer are NaN or infinite, in a few words; empty if none is."""
        return ", ".join(filter(None, (count_not_finite(name, values) for name, values in self.arrays().items())))

    def first(self, count: int) -> Answer:
        """The same answer with at most so many items in its table and document, if it is a list of them."""
        return self

    def picture(self, image: Image.Image) -> Image.Image | None:
        """The answer drawn, on the picture that it is about; None if it is no picture."""
        return None

    def results(self, image: int | str) -> list[dict[str, Any]] | None:
        """The answer as lines of COCO's results, under the number or the name of the picture; None if it is none."""
        return None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The answer as arrays, for programs that go on with it; empty if it is none."""
        return {}

    def __repr__(self) -> str:
        return "\n".join("  ".join(row) for row in self.rows())


class Comparison(ABC):
    """The answers of two sides, batch by batch; memory does not grow with their number beyond what is said."""

    @abstractmethod
    def add(self, reference: Sequence[Answer], candidate: Sequence[Answer]) -> None:
        """The answers to some more images."""

    @abstractmethod
    def result(self) -> Agreement:
        """What was found so far."""

    @abstractmethod
    def points_lost(self) -> float:
        """How much worse the candidate is, in percentage points of what counts; NaN if there is nothing to lose."""


class Task(ABC):
    """What a model is for."""

    name: str
    """As ``--task`` takes it and files store it."""
    summary: str
    """In a few words, for help texts."""
    counts: tuple[str, str]
    """What ``Comparison.points_lost`` counts: with known classes, and without."""
    rounding_float32: float = 1.0
    """How many times as far as a classifier's logits its outputs may be off in float32."""
    more_inputs: tuple[TensorSpec, ...] = ()
    """What its models take beside pictures."""
    least_spread: Mapping[str, float] = {}
    """The least standard deviation that errors of an output are relative to, by its name: a few values have none."""
    in_float32: Mapping[str, str] = {}
    """Why some nodes stay in float32 in files of lower precisions, by patterns of their names."""
    labels_off: float = 8.0
    """How many times as large as an error of the other outputs, in standard deviations, the part of labels that differ
    may be. If logits are off by a part e of their standard deviation, about 5 e of the labels are others: the first of
    150 independent values leads by less than 2 e that often."""
    parts: Mapping[str, str] = {}
    """What its networks have beside the backbone, for people, by what the names of the tensors begin with."""
    has_classes: bool = False
    """Whether it has labels, one per class."""
    dense: bool = False
    """Whether the head reads the maps of blocks, as those of segmentation and detection do."""
    interpolation: str = "bilinear"
    """How pictures are resized for a dense model, as ``Recipe.interpolation``."""
    fit: str = CROP
    """How pictures come into the input: the ``Recipe.fit`` that its networks were trained for."""

    fields: tuple[str, ...] = ()
    """What a table for programs has of an answer: keys of its document, or of the items of the document's list."""
    items: str = ""
    """The list in an answer's document that gives a line of such a table for each item; empty if it has none."""
    vector: str = ""
    """The output with one vector for a picture, which is an attribute of answers too; empty if there is none."""

    def numbers(self, config: Any, shapes: Shapes, neck: str = "") -> dict[str, Any]:
        """What the head is made of, as plain values for ``ModelInfo.head``.

        Args:
            config: of the backbone.
            shapes: of a checkpoint's tensors, by their names in our modules; empty for random weights.
            neck: the neck that somebody asks for; empty: the checkpoint's, or the task's usual one.

        Raises:
            ConfigError: if the task does not have such a head.
        """
        if neck:
            raise ConfigError(f"neck is for the task pyramid; {self.name} has none to choose.")
        return {}

    def least_grid(self, config: Any, numbers: Mapping[str, Any]) -> int:
        """How many patches a picture must have down and across."""
        return 2

    @abstractmethod
    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """The outputs of a model.

        Args:
            config: of its backbone.
            grid: patches down and across, or words if the image size is free.
            blocks: whose maps are wanted too, as ``--blocks`` names them.
            numbers: of the head.

        Raises:
            ConfigError: if the task does not have such outputs.
        """

    @abstractmethod
    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """The whole network: what stands on the backbone, the backbone within."""

    def rounding(self, info: ModelInfo) -> float:
        """How many times as far as a classifier's logits its outputs may be off in precisions below float32."""
        return 1.0

    def stages(self, info: ModelInfo) -> tuple[StageSpec, ...]:
        """The steps behind the backbone whose values can be compared."""
        return ()

    def check(self, info: ModelInfo) -> None:  # noqa: B027  # there may be nothing to check
        """Check what a file says of itself.

        Raises:
            ConfigError: if that is no model of this task.
        """

    def limits(self, score_threshold: float | None = None, max_detections: int | None = None) -> Limits:
        """What is asked of a model, and the usual for what is None.

        Raises:
            ConfigError: if the task finds no objects, or none within these limits.
        """
        if score_threshold is not None or max_detections is not None:
            raise ConfigError(
                f"score_threshold and max_detections are for the task detect; {self.name} finds no objects."
            )
        return Limits()

    def beside(self, info: ModelInfo, placement: Placement, limits: Limits) -> dict[str, npt.NDArray[Any]]:
        """The inputs of a model beside the picture, for one picture and without the axis of the batch.

        Args:
            info: of the model.
            placement: how the picture lies in the model's input.
            limits: which objects are wanted.
        """
        return {}

    def aligned(self, wanted: Outputs, found: Outputs) -> tuple[Outputs, Outputs]:
        """The outputs of two sides for one picture, a batch of it alone, so that they can be compared by element.

        Outputs of the same name have the same shape then, which may be empty. Where one side has something that the
        other lacks, a label of the other's is ``ABSENT``.
        """
        return wanted, found

    def pairs(self, wanted: Outputs, found: Outputs) -> Iterator[tuple[Outputs, Outputs]]:
        """The outputs of two sides for each picture of a batch, as of ``aligned``."""
        for number in range(len(next(iter(wanted.values())))):
            ours, theirs = ({name: side[name][number : number + 1] for name in wanted} for side in (wanted, found))
            yield self.aligned(ours, theirs)

    @abstractmethod
    def answers(self, outputs: Outputs, info: ModelInfo, placements: Sequence[Placement] = ()) -> list[Answer]:
        """The answer to each picture of a batch.

        Args:
            outputs: of the model.
            info: of the model.
            placements: for each row of the outputs, how its picture lies in the model's input: answers are in the
                picture's own pixels then. None: answers are in those of the input.
        """

    def gathered(self, batches: Iterable[tuple[Outputs, Sequence[Placement]]], info: ModelInfo) -> Iterator[Answer]:
        """The answer to each picture, as soon as the outputs of its last window are there.

        Args:
            batches: outputs, and for each of their rows the placement of its picture; windows in order, those of a
                picture perhaps in several batches.
            info: of the model.
        """
        for outputs, placements in batches:
            yield from self.answers(outputs, info, placements)

    @abstractmethod
    def comparison(
        self, info: ModelInfo, classes: npt.NDArray[np.int64] | None = None, names: Sequence[str] = ()
    ) -> Comparison:
        """How the answers of two sides are compared.

        Args:
            info: of the models.
            classes: the right class of each image, in the order in which answers are added; None if nobody knows.
            names: of the images; else ``input 0`` and so on.
        """

    def class_names(self, info: ModelInfo, found: Sequence[str]) -> Callable[[str], int]:
        """From the name of a sub-folder of pictures to the number of a class.

        Args:
            info: of the model.
            found: the names of all sub-folders, sorted.

        Raises:
            ImageError: if they are no classes of the model.
        """
        return {name: number for number, name in enumerate(found)}.__getitem__

    def no_blocks(self, blocks: Sequence[int]) -> None:
        """Refuse ``blocks`` for a task that gives no maps of single blocks.

        Raises:
            ConfigError: if there are some.
        """
        if blocks:
            raise ConfigError(f"blocks are for the task features; {self.name} has no maps of single blocks.")


def count_not_finite(name: str, values: npt.NDArray[Any]) -> str:
    """How many values of an output are NaN or infinite, in a few words; empty if none is."""
    return told_not_finite(name, int(values.size - np.isfinite(values).sum()), values.size)


def told_not_finite(name: str, wrong: int, total: int) -> str:
    """So many values of an output, in a few words; empty for none."""
    return f"{wrong} of {total} values of {name} are NaN or infinite" if wrong else ""


DRAWN = 256
"""Pixels of the longer side of what answers are drawn on for people to compare them."""
ABSENT = -1
"""The label of what the other side alone has."""

MAX_CHANGES = 40
"""Changes that are kept with their pictures; the rest are counted."""


def image_name(names: Sequence[str], number: int) -> str:
    """The name of an image, for people."""
    return names[number] if names else f"input {number}"
