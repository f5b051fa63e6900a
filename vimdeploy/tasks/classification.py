"""Classification: a picture to the most probable classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy import imagenet
from vimdeploy.errors import ConfigError, ImageError
from vimdeploy.model_info import BATCH, ModelInfo, TensorSpec
from vimdeploy.models.stages import StageSpec, StoredWeight
from vimdeploy.tasks.base import (
    MAX_CHANGES,
    Agreement,
    Answer,
    Change,
    Comparison,
    Measure,
    Outputs,
    Proportion,
    Task,
    count_not_finite,
    image_name,
)
from vimdeploy.text import shortened

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

LOGITS = "logits"
_FEW = 5
"""As many classes as the second measure looks at; a model of no more has the first alone."""


@dataclass(frozen=True)
class Prediction:
    """One class, and how probable it is."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, repr=False, eq=False)
class Classes(Answer):
    """The logits of a picture, and what they mean."""

    logits: npt.NDArray[np.float32]
    """(classes,); of a model of one logit that and 0, the logit of its class's absence."""
    labels: tuple[str, ...]
    top: int = 5
    """How many classes the table and the JSON document have."""

    columns = ("probability", "class")

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """The classes, from the most to the least probable; of equal ones, the lower number first."""
        return np.argsort(-self.logits, kind="stable")

    @property
    def predictions(self) -> list[Prediction]:
        """The ``top`` most probable classes.

        To the bit what the C library's ``exp`` and a plain sum give in any language; NumPy's own depend on the CPU.
        """
        logits = self.logits.astype(np.float64)
        exponentials = np.fromiter(map(math.exp, logits - logits.max()), np.float64, len(logits))
        probabilities = exponentials / np.cumsum(exponentials)[-1]
        return [Prediction(int(i), self.label(int(i)), float(probabilities[i])) for i in self.order[: self.top]]

    def label(self, index: int) -> str:
        """The name of a class; its number if nobody named it."""
        return self.labels[index] if self.labels else f"class {index}"

    @property
    def margin(self) -> float:
        """By how many logits the first class leads before the second; infinite if there is no second, NaN with NaN."""
        if len(self.logits) < 2:
            return math.inf
        second, first = np.sort(self.logits.astype(np.float64))[-2:]
        return float(first - second)

    @property
    def not_finite(self) -> str:
        """The logits are looked at."""
        return count_not_finite(LOGITS, self.logits)

    def first(self, count: int) -> Classes:
        """With so many classes.

        Raises:
            ConfigError: for none of them.
        """
        if not isinstance(count, Integral) or count < 1:
            raise ConfigError(f"Wanted at least 1 class to show, found {count!r}.")
        return replace(self, top=count)

    def rows(self) -> list[tuple[str, ...]]:
        """A line per class."""
        return [(f"{prediction.probability:7.2%}", prediction.label) for prediction in self.predictions]

    def document(self) -> dict[str, Any]:
        """The classes with their numbers, names and probabilities."""
        return {"top": [vars(prediction) for prediction in self.predictions]}


class Classification(Task):
    """One class out of many."""

    name = "classification"
    summary = "the most probable classes"
    parts: Mapping[str, str] = {"head.": "classifier head"}
    counts = ("accuracy", "equal top-1 answers")
    has_classes = True
    fields = ("index", "label", "probability")
    items = "top"
    vector = LOGITS

    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """``logits`` (batch, classes)."""
        self.no_blocks(blocks)
        return (TensorSpec(LOGITS, (BATCH, config.num_classes)),)

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """A ``Classifier``."""
        from vimdeploy.models.heads.classification import Classifier

        return Classifier(backbone)

    def stages(self, info: ModelInfo) -> tuple[StageSpec, ...]:
        """The Linear layer."""
        weights = (StoredWeight("head.Gemm", 1, "head.weight"), StoredWeight("head.Gemm", 2, "head.bias"))
        dim = int(info.config["dim"])
        return (StageSpec("head", "head", None, dim, "head", LOGITS, weights, float32_in=("int8",)),)

    def check(self, info: ModelInfo) -> None:
        """A label for each class, or none at all."""
        classes = _classes_of(info)
        if info.labels and len(info.labels) != classes:
            raise ConfigError(f"Wanted {classes} labels, one per class; found {len(info.labels)}.")

    def answers(self, outputs: Outputs, info: ModelInfo, placements: Sequence[Placement] = ()) -> list[Answer]:
        """The classes of each picture.

        The probability of a class is the softmax of the logits. A model of one logit was trained with a sigmoid, which
        is the softmax of that logit and 0: its answer is its class or the absence of it.
        """
        logits, labels = outputs[LOGITS], tuple(map(str, info.labels))
        if _classes_of(info) == 1:
            logits = np.concatenate([logits, np.zeros_like(logits)], axis=1)
            label = labels[0] if labels else "class 0"
            labels = (label, f"not {label}")
        return [Classes(row, labels) for row in logits]

    def comparison(
        self, info: ModelInfo, classes: npt.NDArray[np.int64] | None = None, names: Sequence[str] = ()
    ) -> Comparison:
        """By the most probable class, and by the five most probable ones."""
        return _Tally(_classes_of(info), classes, names)

    def class_names(self, info: ModelInfo, found: Sequence[str]) -> Callable[[str], int]:
        """The model's labels, or the classes' numbers; without labels, the sorted sub-folders are the classes."""
        classes, labels = _classes_of(info), [str(label) for label in info.labels]
        if classes == 1:
            return _of_one_class(labels, found)
        if not labels:
            return _in_order(classes, found)
        numbers = {name: number for number, name in enumerate(labels)}
        if not any(name.isdecimal() for name in labels):
            numbers |= {str(number): number for number in range(classes)}
        if info.labels == imagenet.names():  # its folders have WordNet's numbers, n01440764
            numbers |= {synset: number for number, synset in enumerate(imagenet.synsets())}
        for name in found:
            if name not in numbers:
                raise ImageError(
                    f"Wanted a sub-folder for each class under the model's names ({', '.join(labels[:4])} ...), "
                    f"found {shortened(repr(name), 100)}, which is none of them."
                )
            if labels.count(name) > 1:
                same = [str(number) for number, label in enumerate(labels) if label == name]
                raise ImageError(
                    f"The model has more than one class of the name {name!r}: {', '.join(same)}. Name their "
                    "sub-folders by these numbers, or export the model with labels that differ."
                )
        return numbers.__getitem__


def _of_one_class(labels: Sequence[str], found: Sequence[str]) -> Callable[[str], int]:
    """The sub-folder of the class that the one logit stands for is 0, all others are 1, its absence."""
    if not labels:
        raise ImageError(
            "The model has one logit and does not name its class, so nobody knows which sub-folder that is; export it "
            "with --labels FILE."
        )
    if labels[0] not in found:
        raise ImageError(
            f"Wanted a sub-folder {labels[0]!r}, the class of the model's one logit, and others for its absence; "
            f"found {', '.join(found[:4])}."
        )
    return lambda name: int(name != labels[0])


def _in_order(classes: int, found: Sequence[str]) -> Callable[[str], int]:
    """The sorted sub-folders are the classes, as in the training of most."""
    if len(found) != classes:
        raise ImageError(
            f"Wanted {classes} sub-folders, one per class, because the model does not name its classes; "
            f"found {len(found)}. Export it with --labels FILE to use any of its classes."
        )
    if all(name.isdecimal() for name in found) and sorted(found, key=int) != list(found):
        raise ImageError(
            f"The sub-folders are numbers that are sorted in one way as text ({', '.join(found[:3])} ...) and in "
            "another one as numbers, and the model does not name its classes. Export it with --labels FILE."
        )
    return {name: number for number, name in enumerate(found)}.__getitem__


def _classes_of(info: ModelInfo) -> int:
    last = info.outputs[0].dims[-1:] if info.outputs else ()
    if not last or not isinstance(last[0], int):
        found = ", ".join(map(str, info.outputs)) or "none"
        raise ConfigError(f"Wanted an output, the logits, whose last size is the number of classes; found {found}.")
    return last[0]


class _Tally(Comparison):
    """Counts; memory does not grow with the number of images."""

    def __init__(self, classes: int, right: npt.NDArray[np.int64] | None, names: Sequence[str]) -> None:
        self._has_more_than_few = classes > _FEW
        self._right, self._names = right, names
        self._images = self._same_first = self._same_few = 0
        self._correct = np.zeros((2, 2), np.int64)  # reference and candidate: first, among few
        self._changes: list[Change] = []

    def add(self, reference: Sequence[Answer], candidate: Sequence[Answer]) -> None:
        """Count the answers to some more images."""
        for wanted, found in zip(reference, candidate, strict=True):
            assert isinstance(wanted, Classes)
            assert isinstance(found, Classes)
            self._add(wanted, found)

    def _add(self, wanted: Classes, found: Classes) -> None:
        orders = [answer.order[:_FEW] for answer in (wanted, found)]
        same = orders[0][0] == orders[1][0]
        self._same_first += int(same)
        self._same_few += set(orders[0]) == set(orders[1])
        right = None if self._right is None else self._right[self._images]
        if right is not None:
            self._correct += [[order[0] == right, right in order] for order in orders]
        if not same and len(self._changes) < MAX_CHANGES:
            change = Change(
                image_name(self._names, self._images),
                wanted.label(int(orders[0][0])),
                found.label(int(orders[1][0])),
                "" if right is None else wanted.label(int(right)),
                (wanted.margin, found.margin),
            )
            self._changes.append(change)
        self._images += 1

    def result(self) -> Agreement:
        """How often both sides answer the same, and how often each is right."""

        def of_images(count: int) -> Proportion:
            return Proportion(int(count), self._images)

        measures = [Measure("same top-1", of_images(self._same_first))]
        if self._has_more_than_few:
            measures.append(Measure("same top-5, in any order", of_images(self._same_few)))
        if self._right is not None:
            (first, few), (our_first, our_few) = self._correct
            measures.append(Measure("top-1 correct", of_images(our_first), of_images(first)))
            if self._has_more_than_few:
                measures.append(Measure("top-5 correct", of_images(our_few), of_images(few)))
        changed = self._images - self._same_first
        return Agreement(tuple(measures), tuple(self._changes), changed, "top logit minus second")

    def points_lost(self) -> float:
        """Percentage points of accuracy if the classes are known, else of equal top-1 answers."""
        if not self._images:
            return 0.0
        if self._right is None:
            return 100 * (self._images - self._same_first) / self._images
        return 100 * float(self._correct[0, 0] - self._correct[1, 0]) / self._images
