"""What a comparison found: the nouns that the command line, the JSON document and the page are made of.

An error is an absolute difference, ``found`` (the candidate's value) minus ``wanted`` (the reference's). A value that
is NaN or infinite on either side has an infinite error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vimdeploy.tasks.base import Agreement
from vimdeploy.tolerance import Tolerance


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    description: str
    """The session in a few words: ``ONNX Runtime (library, cpu)``."""
    source: str = ""
    """The file that it runs, or the checkpoint; empty if there is none."""
    precision: str = "fp32"
    sha256: str = ""
    """The hash of that file; empty if it is not known."""


@dataclass(frozen=True)
class Place:
    """One element of a tensor, and its value on both sides."""

    image: str
    """The path of the picture, or ``input 3``."""
    index: tuple[int, ...]
    """Within the tensor of that image: (class,), (token, channel), (direction, token, channel) ..."""
    wanted: float
    found: float


@dataclass(frozen=True)
class Histogram:
    """How many values lie between two edges."""

    edges: tuple[float, ...]
    """Ascending, one more than counts; the first is 0, the last may be infinite."""
    counts: tuple[int, ...]


@dataclass(frozen=True)
class OutputErrors:
    """How far the values of one output lie apart, over all images."""

    name: str
    """Which output: ``logits``, ``map``."""
    largest: float
    place: Place
    """Where the largest error is."""
    mean: float
    std: float
    """Standard deviation of the reference's values, over all images; at least the task's ``least_spread``."""
    cosine: float
    """The smallest cosine between the values of an image on both sides."""
    histogram: Histogram
    """The absolute errors, in classes of equal width on a logarithmic scale."""
    nan: int
    infinite: int
    """How many of the candidate's values are no finite numbers."""
    tolerance: Tolerance
    """The bound on ``relative``."""
    of_labels: bool = False
    """Whether the values are whole numbers, and an error is the part of an image's values that differ."""

    @property
    def values(self) -> int:
        """How many were compared: none of what was found on no side, or not on both."""
        return sum(self.histogram.counts)

    @property
    def relative(self) -> float:
        """The largest error, relative to the standard deviation."""
        return self.largest / self.std if self.std else math.inf if self.largest else 0.0

    @property
    def unit(self) -> str:
        """What ``relative`` counts, for people."""
        return "of an image's labels" if self.of_labels else "standard deviations"

    @property
    def passed(self) -> bool:
        """Whether the largest error is within the tolerance (NaN is not)."""
        return self.relative <= self.tolerance.limit

    @property
    def complaint(self) -> str:
        """What is wrong with an output that has not passed."""
        if self.nan + self.infinite:
            return f"{self.nan} NaN and {self.infinite} infinite values, the first for {self.place.image}"
        if self.of_labels:
            return (
                f"{self.relative:.2%} of its labels that differ for {self.place.image}, "
                f"{self.tolerance.limit:.2%} are allowed"
            )
        return (
            f"an error of {self.relative:.2g} standard deviations, {self.tolerance.limit:.2g} is allowed "
            f"({self.place.image}, element {self.place.index}: wanted {self.place.wanted:.6g}, "
            f"found {self.place.found:.6g})"
        )


@dataclass(frozen=True)
class Deviation:
    """How far a stage's values lie apart."""

    error: float
    """The largest relative error (``parity.stages`` says relative to what)."""
    tolerance: Tolerance
    """The band: the bound on ``error``, and why."""
    place: Place
    of_rows: bool = False
    """Whether the values are rows that were chosen, and the error is the part of them that one side alone has."""

    @property
    def passed(self) -> bool:
        """Whether the error is within its band."""
        return self.error <= self.tolerance.limit


@dataclass(frozen=True)
class Stage:
    """One step of the network, compared on some of the images."""

    name: str
    """After the module: ``patch_embed``, ``layers.13.mixer.in_proj``, ``layers.13`` (the residual after the block)."""
    title: str
    """For people: ``Block 13, in_proj``."""
    block: int | None
    """None before and behind the blocks."""
    kind: str
    """The step within its block: ``in_proj``, ``scan``, ``residual``; or ``patch_embed``, ``norm_f``, ``head``."""
    carried: Deviation
    """Both sides from the image on: with the errors of all stages before."""
    own: Deviation | None
    """The stage alone, fed with the same values on both sides; None if that cannot be done."""
    nan: int
    infinite: int
    """How many of the candidate's values are no finite numbers."""

    @property
    def passed(self) -> bool:
        """Whether all errors are within their bands and all values finite."""
        return self.carried.passed and (self.own is None or self.own.passed) and not self.nan + self.infinite

    @property
    def complaint(self) -> str:
        """What is wrong with a stage that has not passed."""
        if self.nan + self.infinite:
            place = self.carried.place
            return f"{self.nan} NaN and {self.infinite} infinite values, the first in {place.image} at {place.index}"
        own = self.own is not None and not self.own.passed
        worst = self.own if own and self.own is not None else self.carried
        fed = "fed with the same values as the reference, " if own else ""
        if worst.of_rows:
            return (
                f"{fed}{worst.error:.1%} of what it chooses is on one side alone, {worst.tolerance.limit:.1%} is "
                f"allowed ({worst.place.image}, the first is number {worst.place.index[0]})"
            )
        return (
            f"{fed}a relative error of {worst.error:.2g}, {worst.tolerance.limit:.2g} is allowed "
            f"({worst.place.image}, element {worst.place.index}: wanted {worst.place.wanted:.7g}, "
            f"found {worst.place.found:.7g})"
        )


@dataclass(frozen=True)
class WeightDifference:
    """A tensor of the file that is not the checkpoint's, rounded to the file's type."""

    name: str
    """The name of the tensor in the file."""
    stage: str
    """The title of the stage that it belongs to: ``Block 13, in_proj``."""
    differing: int
    elements: int
    index: tuple[int, ...]
    """Where the difference is largest, in the file's layout."""
    wanted: float
    """The checkpoint's value."""
    found: float

    @property
    def complaint(self) -> str:
        """The difference in words."""
        return (
            f"the file's {self.name}{list(self.index)} is {self.found:.7g}, the checkpoint's {self.wanted:.7g} "
            f"({self.differing} of {self.elements} elements differ)"
        )


@dataclass(frozen=True)
class WeightCheck:
    """The weights stored in a file against the checkpoint's."""

    compared: int
    """Tensors."""
    unknown: tuple[str, ...]
    """Tensors of the checkpoint that the file does not hold under the names of our exports."""
    differences: tuple[WeightDifference, ...]
    """In the order of the network."""


@dataclass(frozen=True)
class DeterminismCheck:
    """The same inputs to the candidate in two ways."""

    name: str
    """``the same run twice``, ``one thread and the default``, ``alone and in a batch``."""
    error: float
    """The largest difference, relative to the output's standard deviation; 0 is the same to the bit."""
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.error <= self.tolerance.limit

    @property
    def complaint(self) -> str:
        """What is wrong with a check that has not passed."""
        return f"{self.name} differ by {self.error:.2g} standard deviations, {self.tolerance.limit:.2g} is allowed"


@dataclass(frozen=True)
class Fault:
    """What is wrong first, in the order of the network."""

    where: str
    """``Block 13, in_proj``; ``Output logits``; ``Determinism``."""
    what: str
    """A sentence without its end, with the numbers."""


@dataclass(frozen=True)
class Verification:
    """How a candidate compares with a reference."""

    reference: Side
    candidate: Side
    images: int
    inputs: str
    """What was compared on: ``8 random inputs (seed 0)``, ``450 pictures of DIR``."""
    outputs: tuple[OutputErrors, ...]
    """In the model's order."""
    answers: Agreement
    stages: tuple[Stage, ...] = ()
    """In the order of the network."""
    stages_note: str = ""
    """Why stages are left out, in a sentence."""
    weights: WeightCheck | None = None
    """None if no checkpoint was given."""
    determinism: tuple[DeterminismCheck, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault is None

    @property
    def worst(self) -> OutputErrors:
        """The output that comes nearest to its bound, or is farthest beyond it."""
        return max(self.outputs, key=lambda output: output.relative / output.tolerance.limit)

    @property
    def fault(self) -> Fault | None:
        """What is wrong first: a stage, a weight of it, an output, what changes from run to run; None if nothing is.

        A weight that differs is the cause of what is wrong in its stage and behind it.
        """
        stage = next((stage for stage in self.stages if not stage.passed), None)
        weight = next(iter(self.weights.differences), None) if self.weights else None
        if weight is not None and (stage is None or self._depth(weight.stage) <= self._depth(stage.title)):
            found = f"; {stage.complaint}" if stage is not None and stage.title == weight.stage else ""
            return Fault(weight.stage, weight.complaint + found)
        if stage is not None:
            return Fault(stage.title, stage.complaint)
        output = next((output for output in self.outputs if not output.passed), None)
        if output is not None:
            return Fault(f"Output {output.name}", output.complaint)
        unsteady = next((check for check in self.determinism if not check.passed), None)
        return None if unsteady is None else Fault("Determinism", unsteady.complaint)

    def _depth(self, title: str) -> int:
        titles = [stage.title for stage in self.stages]
        return titles.index(title) if title in titles else -1
