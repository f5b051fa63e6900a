"""What a comparison found: the nouns that the command line, the JSON document and the page are made of.

An error is an absolute difference, ``found`` (the candidate's value) minus ``wanted`` (the reference's). A value that
is NaN or infinite on either side has an infinite error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vimdeploy.tolerance import Tolerance

_Z95 = 1.959964
"""Standard normal deviation that 95 % of all values stay within."""


@dataclass(frozen=True)
class Proportion:
    """So many out of so many, and what that says of pictures that were not seen."""

    count: int
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
class Side:
    """One of the two that are compared."""

    description: str
    """The session in a few words: ``OnnxRuntime (library, cpu)``."""
    source: str = ""
    """The file that it runs, or the checkpoint; empty where there is none."""
    precision: str = "fp32"
    sha256: str = ""
    """Of that file; empty where it is not known."""


@dataclass(frozen=True)
class Place:
    """One element of a tensor, and its value on both sides."""

    image: str
    """The path of the picture, or ``input 3``."""
    index: tuple[int, ...]
    """Within the tensor of that image: (logit,), (token, channel), (direction, token, channel) ..."""
    wanted: float
    found: float


@dataclass(frozen=True)
class Histogram:
    """How many values lie between two edges."""

    edges: tuple[float, ...]
    """Ascending, one more than counts; the first is 0, the last may be infinite."""
    counts: tuple[int, ...]


@dataclass(frozen=True)
class LogitErrors:
    """How far the logits of all images lie apart, in logits."""

    largest: float
    place: Place
    """Where the largest error is."""
    mean: float
    spread: float
    """Standard deviation of the reference's logits, over all images and classes."""
    cosine: float
    """The smallest cosine between the two logit vectors of an image."""
    histogram: Histogram
    """Of the absolute errors, in classes of equal width on a logarithmic scale."""
    nan: int
    infinite: int
    """How many of the candidate's logits are no finite numbers."""
    tolerance: Tolerance
    """The bound on ``relative``."""

    @property
    def relative(self) -> float:
        """The largest error in parts of the spread."""
        return self.largest / self.spread if self.spread else math.inf if self.largest else 0.0

    @property
    def passed(self) -> bool:
        """Whether the largest error is within the tolerance (NaN is not)."""
        return self.relative <= self.tolerance.limit

    @property
    def complaint(self) -> str:
        """What is wrong with logits that have not passed."""
        if self.nan + self.infinite:
            return f"{self.nan} NaN and {self.infinite} infinite ones, the first for {self.place.image}"
        return (
            f"an error of {self.relative:.2g} of their spread, {self.tolerance.limit:.2g} is allowed "
            f"({self.place.image}, logit {self.place.index[0]}: wanted {self.place.wanted:.6g}, "
            f"found {self.place.found:.6g})"
        )


@dataclass(frozen=True)
class Agreement:
    """How often both sides answer the same, and how often each is right."""

    top1: Proportion
    """Images with the same most probable class."""
    top5: Proportion | None
    """Images with the same five classes first, in any order; None for models of five classes or fewer."""
    reference_top1: Proportion | None = None
    reference_top5: Proportion | None = None
    candidate_top1: Proportion | None = None
    candidate_top5: Proportion | None = None
    """Images whose class was found first, or among the first five; None where the right classes are not known."""


@dataclass(frozen=True)
class ChangedAnswer:
    """An image whose most probable class is another one in the candidate."""

    image: str
    wanted: str
    """The reference's answer."""
    found: str
    """The candidate's answer."""
    reference_margin: float
    """By how many logits the reference's first class leads before its second."""
    candidate_margin: float
    truth: str = ""
    """The right class, where it is known."""
    png: bytes = b""
    """The picture in small; empty for random inputs."""


@dataclass(frozen=True)
class Deviation:
    """How far a stage's values lie apart."""

    error: float
    """The largest, in parts of the size of what stands there (``parity.stages`` tells how it is measured)."""
    tolerance: Tolerance
    """The band: the bound on ``error``, and why."""
    place: Place

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
    """The stage alone, fed with the same values on both sides; None where that cannot be done."""
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
        return (
            f"{fed}an error of {worst.error:.2g} of its size, {worst.tolerance.limit:.2g} is allowed "
            f"({worst.place.image}, element {worst.place.index}: wanted {worst.place.wanted:.7g}, "
            f"found {worst.place.found:.7g})"
        )


@dataclass(frozen=True)
class WeightDifference:
    """A tensor of the file that is not the checkpoint's, rounded to the file's type."""

    name: str
    """Of the tensor in the file."""
    stage: str
    """The title of the stage that it belongs to: ``Block 13, in_proj``."""
    differing: int
    elements: int
    index: tuple[int, ...]
    """Of the largest difference, in the file's layout."""
    wanted: float
    """By the checkpoint."""
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
    """The largest difference of a logit, in parts of the logits' spread; 0 is the same to the bit."""
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.error <= self.tolerance.limit

    @property
    def complaint(self) -> str:
        """What is wrong with a check that has not passed."""
        return f"{self.name} differ by {self.error:.2g} of the logits' spread, {self.tolerance.limit:.2g} is allowed"


@dataclass(frozen=True)
class Fault:
    """What is wrong first, in the order of the network."""

    where: str
    """``Block 13, in_proj``; ``Logits``; ``Determinism``."""
    what: str
    """A sentence without its end, with the numbers."""


@dataclass(frozen=True)
class Verification:
    """How a candidate compares with a reference."""

    reference: Side
    candidate: Side
    images: int
    inputs: str
    """What was compared on: ``8 random inputs of seed 0``, ``450 pictures of DIR``."""
    logits: LogitErrors
    answers: Agreement
    changed: tuple[ChangedAnswer, ...]
    """The first of them; how many there are in all, ``answers.top1`` tells."""
    stages: tuple[Stage, ...] = ()
    """In the order of the network."""
    stages_note: str = ""
    """Why stages are left out, in a sentence."""
    weights: WeightCheck | None = None
    """None where no checkpoint was given."""
    determinism: tuple[DeterminismCheck, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault is None

    @property
    def fault(self) -> Fault | None:
        """What is wrong first: a stage, a weight of it, the logits, what changes from run to run; None if nothing is.

        A weight that differs is the cause of what is wrong in its stage and behind it.
        """
        stage = next((stage for stage in self.stages if not stage.passed), None)
        weight = next(iter(self.weights.differences), None) if self.weights else None
        if weight is not None and (stage is None or self._depth(weight.stage) <= self._depth(stage.title)):
            found = f"; {stage.complaint}" if stage is not None and stage.title == weight.stage else ""
            return Fault(weight.stage, weight.complaint + found)
        if stage is not None:
            return Fault(stage.title, stage.complaint)
        if not self.logits.passed:
            return Fault("Logits", self.logits.complaint)
        unsteady = next((check for check in self.determinism if not check.passed), None)
        return None if unsteady is None else Fault("Determinism", unsteady.complaint)

    def _depth(self, title: str) -> int:
        titles = [stage.title for stage in self.stages]
        return titles.index(title) if title in titles else -1
