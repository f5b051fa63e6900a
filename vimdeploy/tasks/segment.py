"""Segmentation: a picture to the class of each of its pixels."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import BATCH, HEIGHT, WIDTH, ModelInfo, TensorSpec
from vimdeploy.models.stages import StageSpec, StoredWeight
from vimdeploy.recipe import CROP, OPENCV, SLIDE
from vimdeploy.tasks.base import (
    DRAWN,
    MAX_CHANGES,
    Agreement,
    Answer,
    Change,
    Comparison,
    Measure,
    Outputs,
    Proportion,
    Shapes,
    Task,
    count_not_finite,
    image_name,
    told_not_finite,
)
from vimdeploy.tasks.merge import Merger
from vimdeploy.tasks.pyramid import FPN, Pyramid, channels_of, check_neck, neck_of, neck_stages

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

LOGITS, CLASSES = "logits", "classes"
_CLASSES = 150
"""Classes of random weights: as many as ADE20K has."""
_MOST = 1 << 16
"""More classes or channels no head has; bounds what a damaged file can ask for."""
_SAME = 0.99
"""Part of a picture's pixels that are of the same class on both sides, if its mask is called the same."""
_OPACITY = 0.55
_LEGEND = 12
"""Classes that the legend has room for."""
_INT8 = ("int8",)


@dataclass(frozen=True, repr=False, eq=False)
class Mask(Answer):
    """The class of each pixel."""

    classes: npt.NDArray[np.integer[Any]]
    """(H, W), as large as the picture; as what the model saw of it, if sessions are compared."""
    labels: tuple[str, ...]
    top: int = 5
    """How many classes the table and the JSON document have."""
    wrong: str = ""
    """What ``not_finite`` says; the logits themselves are not kept, because they take much more memory."""

    columns = ("share", "class")

    @property
    def shares(self) -> dict[int, float]:
        """Which part of the picture each class covers that is there; the largest first."""
        numbers, counts = np.unique(self.classes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {int(numbers[i]): int(counts[i]) / self.classes.size for i in order}

    @property
    def not_finite(self) -> str:
        """The logits are looked at."""
        return self.wrong

    def label(self, number: int) -> str:
        """The name of a class; its number if nobody named it."""
        return self.labels[number] if self.labels else f"class {number}"

    def first(self, count: int) -> Mask:
        """With so many classes."""
        return replace(self, top=count)

    def small(self) -> Mask:
        """With fewer pixels, to be drawn in small."""
        step = -(-max(self.classes.shape) // DRAWN)
        return replace(self, classes=self.classes[::step, ::step].copy())

    def rows(self) -> list[tuple[str, ...]]:
        """A line per class."""
        return [(f"{share:7.2%}", self.label(number)) for number, share in list(self.shares.items())[: self.top]]

    def document(self) -> dict[str, Any]:
        """The size of the mask, and its largest classes; ``run --save`` has the mask."""
        found = [
            {"index": number, "label": self.label(number), "share": share} for number, share in self.shares.items()
        ]
        return {"shape": list(self.classes.shape), "top": found[: self.top]}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The mask."""
        return {CLASSES: self.classes}

    def picture(self, image: Image.Image) -> Image.Image:
        """The classes in colours over the picture, and a legend beside it."""
        from PIL import Image

        colors = np.array([color_of(number) for number in range(int(self.classes.max()) + 1)], np.uint8)
        mask = Image.fromarray(colors[self.classes]).resize(image.size, Image.Resampling.NEAREST)
        return _with_legend(Image.blend(image.convert("RGB"), mask, _OPACITY), self)


def color_of(number: int) -> tuple[int, int, int]:
    """The colour of a class: hues a golden ratio apart, so that neighbouring numbers differ."""
    lightness = (0.55, 0.4, 0.7)[number % 3]
    red, green, blue = colorsys.hls_to_rgb(number * 0.618034 % 1, lightness, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def _with_legend(picture: Image.Image, mask: Mask) -> Image.Image:
    """A picture with the names of its largest classes on its right."""
    from PIL import Image, ImageDraw, ImageFont

    line = max(18, min(picture.size) // 40)  # pixels, which are small on a screen if there are many
    font: Any = ImageFont.load_default(line * 2 / 3)
    shares = list(mask.shares.items())
    lines = [(color_of(number), f"{share:6.1%}  {mask.label(number)}") for number, share in shares[:_LEGEND]]
    if len(shares) > _LEGEND:
        lines.append(((255, 255, 255), f"and {len(shares) - _LEGEND} more"))
    written = [(color, drawable(text)) for color, text in lines]
    wide = max(round(font.getlength(text)) for _, text in written)
    margin = line // 2
    height = max(picture.height, line * len(written) + 2 * margin)
    drawn = Image.new("RGB", (picture.width + wide + line + 3 * margin, height), "white")
    drawn.paste(picture, (0, 0))
    pen, left = ImageDraw.Draw(drawn), picture.width + margin
    for number, (color, text) in enumerate(written):
        top = margin + number * line
        pen.rectangle((left, top, left + line * 2 // 3, top + line * 2 // 3), fill=color)
        pen.text((left + line + margin // 2, top), text, fill="black", font=font)
    return drawn


def drawable(text: str) -> str:
    """A text that every font of Pillow has letters for, and no longer than a legend."""
    return text[:48].encode("latin-1", "replace").decode("latin-1")


class Segmentation(Task):
    """A class for each pixel."""

    name = "segment"
    summary = "the class of each pixel"
    parts: Mapping[str, str] = {"neck.": "neck", "decode_head.": "segmentation head"}
    counts = ("mean IoU with the reference", "mean IoU with the reference")
    fields = ("index", "label", "share")
    items = "top"
    has_classes = True
    dense = True
    fit = SLIDE
    interpolation = OPENCV

    def numbers(self, config: Any, shapes: Shapes, neck: str = "") -> dict[str, Any]:
        """The neck, and the head's classes and channels: a checkpoint's, or those of ADE20K."""
        super().numbers(config, shapes, neck)
        classes, channels = channels_of(shapes, f"{_HEAD}.conv_seg.weight", (_CLASSES, config.dim))
        return Pyramid().numbers(config, shapes, FPN) | {"classes": classes, "head_channels": channels}

    def least_grid(self, config: Any, numbers: Mapping[str, Any]) -> int:
        """As many as its pyramid wants."""
        return Pyramid().least_grid(config, numbers)

    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """``logits`` (batch, classes, H / 4, W / 4), ``classes`` (batch, H, W)."""
        finest, *_ = Pyramid().outputs(config, grid, blocks, numbers)
        sides = [
            word if isinstance(side, str) else (side - 1) * config.stride + config.patch_size
            for side, word in zip(grid, (HEIGHT, WIDTH), strict=True)
        ]
        return (
            TensorSpec(LOGITS, (BATCH, numbers["classes"], *finest.dims[2:])),
            TensorSpec(CLASSES, (BATCH, *sides), "int64"),
        )

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """A ``Segmenter``."""
        from vimdeploy.models.heads.segment import Segmenter

        head = info.head
        neck, blocks = neck_of(backbone.config, head)
        return Segmenter(backbone, neck, blocks, head["channels"], head["head_channels"], head["classes"])

    def stages(self, info: ModelInfo) -> tuple[StageSpec, ...]:
        """The steps of the neck and of the head."""
        return (*neck_stages(info), *_head_stages(int(info.head["channels"]), int(info.head["head_channels"])))

    def check(self, info: ModelInfo) -> None:
        """A neck and a head that there are, and a label for each class, or none at all."""
        check_neck(info)
        classes, channels = info.head.get("classes"), info.head.get("head_channels")
        if info.head["neck"] != FPN or not all(type(n) is int and 1 <= n <= _MOST for n in (classes, channels)):
            raise ConfigError(f"Wanted the neck {FPN} and numbers of classes and channels, found {info.head}.")
        if [spec.name for spec in info.outputs] != [LOGITS, CLASSES]:
            raise ConfigError(f"Wanted the outputs {LOGITS} and {CLASSES}, found {len(info.outputs)} outputs.")
        if info.recipe.fit == CROP:
            raise ConfigError("Wanted a recipe that brings whole pictures into the input, by slide or pad; found crop.")
        if info.labels and len(info.labels) != classes:
            raise ConfigError(f"Wanted {classes} labels, one per class; found {len(info.labels)}.")

    def answers(self, outputs: Outputs, info: ModelInfo, placements: Sequence[Placement] = ()) -> list[Answer]:
        """The mask of each picture."""
        if placements:
            return list(self.gathered([(outputs, placements)], info))
        return [
            Mask(classes.astype(_type_of(info)), _labels(info), wrong=count_not_finite(LOGITS, logits))
            for classes, logits in zip(outputs[CLASSES], outputs[LOGITS], strict=True)
        ]

    def gathered(self, batches: Iterable[tuple[Outputs, Sequence[Placement]]], info: ModelInfo) -> Iterator[Answer]:
        """The mask of each picture, merged from the logits of its windows."""
        windows = (
            (logits, classes.shape, placement)
            for outputs, placements in batches
            for logits, classes, placement in zip(outputs[LOGITS], outputs[CLASSES], placements, strict=True)
        )
        for first in windows:
            logits, size, placement = first
            merger, wrong = Merger(placement, size, logits.shape, _type_of(info)), 0
            for window, *_ in chain([first], islice(windows, len(placement.windows) - 1)):
                merger.add(window)
                wrong += int(window.size - np.isfinite(window).sum())
            total = logits.size * len(placement.windows)
            yield Mask(merger.classes, _labels(info), wrong=told_not_finite(LOGITS, wrong, total))

    def comparison(
        self, info: ModelInfo, classes: npt.NDArray[np.int64] | None = None, names: Sequence[str] = ()
    ) -> Comparison:
        """By equal pixels, and by the mean over the classes of intersection over union (IoU)."""
        return _Masks(int(info.head["classes"]), names)


def _labels(info: ModelInfo) -> tuple[str, ...]:
    return tuple(map(str, info.labels))


def _type_of(info: ModelInfo) -> np.dtype[Any]:
    """The smallest type that has the number of every class."""
    return np.min_scalar_type(int(info.head["classes"]) - 1)


class _Masks(Comparison):
    """Masks of both sides; for each class three numbers are kept."""

    def __init__(self, classes: int, names: Sequence[str]) -> None:
        self._names = names
        self._both, self._reference, self._candidate = (np.zeros(classes, np.int64) for _ in range(3))
        self._images = self._same = 0
        self._agreement = 0.0
        self._changes: list[Change] = []

    def add(self, reference: Sequence[Answer], candidate: Sequence[Answer]) -> None:
        """Count the pixels of some more masks."""
        for wanted, found in zip(reference, candidate, strict=True):
            assert isinstance(wanted, Mask)
            assert isinstance(found, Mask)
            equal = wanted.classes == found.classes
            for counts, numbers in (
                (self._both, wanted.classes[equal]),
                (self._reference, wanted.classes),
                (self._candidate, found.classes),
            ):
                counts += np.bincount(numbers.reshape(-1), minlength=len(counts))
            agreement = float(equal.mean())
            self._agreement += agreement
            if agreement >= _SAME:
                self._same += 1
            elif len(self._changes) < MAX_CHANGES:
                name = image_name(self._names, self._images)
                change = Change(name, _in_words(wanted), _in_words(found), sides=(wanted.small(), found.small()))
                self._changes.append(change)
            self._images += 1

    def result(self) -> Agreement:
        """How many masks are the same, and how alike the pixels are."""
        if not self._images:
            return Agreement()
        ious = self._ious()
        measures = (
            Measure(f"same mask, {_SAME:.0%} of the pixels at least", Proportion(self._same, self._images)),
            Measure("same class of a pixel", Proportion(round(self._agreement, 4), self._images)),
            Measure("mean IoU of the classes", Proportion(round(float(ious.sum()), 4), len(ious))),
        )
        changed = self._images - self._same
        return Agreement(measures, tuple(self._changes), changed, drawing="A class has the same colour on both sides.")

    def points_lost(self) -> float:
        """Percentage points of the mean IoU with the reference."""
        return 100 * (1 - float(self._ious().mean())) if self._images else 0.0

    def _ious(self) -> npt.NDArray[np.float64]:
        """The IoU of each class that one side has."""
        union = self._reference + self._candidate - self._both
        found: npt.NDArray[np.float64] = self._both[union > 0] / union[union > 0]
        return found


def _in_words(mask: Mask) -> str:
    """The two largest classes."""
    return ", ".join(f"{mask.label(number)} {share:.1%}" for number, share in list(mask.shares.items())[:2])


_HEAD = "decode_head"


def _head_stages(dim: int, channels: int) -> Iterator[StageSpec]:
    for number in range(4):
        yield _normed_conv(f"{_HEAD}.psp_modules.{number}.1", dim)
    yield _normed_conv(f"{_HEAD}.bottleneck", 9 * (dim + 4 * channels))
    for number in reversed(range(3)):
        yield _normed_conv(f"{_HEAD}.lateral_convs.{number}", dim)
    for number in range(3):
        yield _normed_conv(f"{_HEAD}.fpn_convs.{number}", 9 * channels)
    yield _normed_conv(f"{_HEAD}.fpn_bottleneck", 36 * channels)
    module = f"{_HEAD}.conv_seg"
    weights = tuple(StoredWeight(f"{module}.Conv", i, f"{module}.{part}") for i, part in enumerate(_PARTS, 1))
    yield StageSpec(module, module, None, channels, module, LOGITS, weights, float32_in=_INT8)


_PARTS = ("weight", "bias")


def _normed_conv(module: str, terms: int) -> StageSpec:
    weights = tuple(StoredWeight(f"{module}.Conv", i, f"{module}.folded.{part}") for i, part in enumerate(_PARTS, 1))
    return StageSpec(module, module, None, terms, module, f"{module}.Relu", weights, float32_in=_INT8)
