"""Pyramids: a picture to maps of several resolutions, which segmentation and detection start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import BATCH, ModelInfo, TensorSpec
from vimdeploy.models.stages import StageSpec, StoredWeight
from vimdeploy.recipe import PAD
from vimdeploy.tasks.base import Answer, Comparison, Outputs, Shapes, Task
from vimdeploy.tasks.features import FeatureMaps, Neighbours
from vimdeploy.text import shortened

if TYPE_CHECKING:
    from torch import nn

    from vimdeploy.models.backbone import Backbone
    from vimdeploy.preprocess import Placement

FPN, SIMPLE = "fpn", "simple"
NECKS = {
    FPN: "four maps of four blocks, as hustvl/Vim segments with",
    SIMPLE: "five maps of the last one, as it detects with",
}
"""What makes a pyramid of a backbone's maps."""
_CHANNELS = 256
"""Channels of the simple pyramid's levels, if no checkpoint says otherwise."""
_WIDEST = 1 << 16
"""More channels no level has; bounds what a damaged file can ask for."""
_INT8 = ("int8",)
_LAST_OF_NORM = "Transpose_2"
"""The node of a norm of channels that gives its value."""


@dataclass(frozen=True, repr=False, eq=False)
class PyramidMaps(FeatureMaps):
    """The levels of a picture, each (D, rows, columns) under the name ``pN``: a value every 2**N pixels."""

    resized: tuple[int, int] | None = None
    """Height and width in pixels of the part of the input, at its top left, that is picture; None: all of it."""

    @property
    def pooled(self) -> npt.NDArray[np.float32]:
        """The mean of every channel of every level: the vector by which pictures are compared."""
        return np.concatenate([values.mean(axis=(1, 2)) for values in self.features.values()])

    @property
    def drawn(self) -> npt.NDArray[np.float32]:
        """The finest level, as far as it is of the picture."""
        name, values = next(iter(self.features.items()))
        rows, columns = (-(-side // 2 ** int(name[1:])) for side in self.resized or (0, 0))
        return values[:, : rows or None, : columns or None]

    def document(self) -> dict[str, Any]:
        """The shapes of the levels, and which part of the input is picture; ``run --save`` has the values."""
        part = {} if self.resized is None else {"resized": list(self.resized)}
        return {"shapes": {name: list(values.shape) for name, values in self.features.items()}} | part


class Pyramid(Task):
    """Maps of several resolutions."""

    name = "pyramid"
    summary = "feature maps of several resolutions"
    parts: Mapping[str, str] = {"neck.": "neck"}
    counts = ("nearest neighbours of the same class", "equal nearest neighbours")
    fields = ("shapes", "resized")
    dense = True
    fit = PAD

    def numbers(self, config: Any, shapes: Shapes, neck: str = "") -> dict[str, Any]:
        """The neck that a checkpoint has: its kind, and the channels of its levels."""
        if neck and neck not in NECKS:
            raise ConfigError(f"neck must be one of {', '.join(NECKS)}, found {neck!r}.")
        held = next((kind for kind, start in _STARTS.items() if any(name.startswith(start) for name in shapes)), "")
        if neck and held and neck != held:
            raise ConfigError(f"Wanted the neck {neck}, the checkpoint has {held}: {NECKS[held]}; leave --neck out.")
        kind = neck or held or FPN
        level = level_of(config)
        if kind == SIMPLE:
            channels, _ = channels_of(shapes, f"neck.simfp_{level}.0.weight", (_CHANNELS, config.dim))
            return {"neck": kind, "channels": channels}
        if config.patch_size not in (8, 16):
            raise ConfigError(f"The neck {FPN} is for patches of 8 or 16 pixels, found {config.patch_size}.")
        if config.depth < len(steps(kind, config.patch_size)):
            raise ConfigError(f"The neck {FPN} reads four blocks, the model has {config.depth}; take --neck {SIMPLE}.")
        return {"neck": kind, "channels": config.dim}

    def least_grid(self, config: Any, numbers: Mapping[str, Any]) -> int:
        """As many patches as the coarsest level has pixels of."""
        return max(2, 2 ** -min(steps(numbers["neck"], config.patch_size)[:4]))

    def outputs(
        self, config: Any, grid: tuple[int | str, int | str], blocks: Sequence[int], numbers: Mapping[str, Any]
    ) -> tuple[TensorSpec, ...]:
        """``pN`` (batch, D, rows, columns), a value every 2**N pixels; the finest first."""
        self.no_blocks(blocks)
        least = self.least_grid(config, numbers)
        specs = []
        for step in steps(numbers["neck"], config.patch_size):
            name = f"p{level_of(config) - step}"
            sides = []
            for side in grid:
                if isinstance(side, int) and side < least:
                    raise ConfigError(
                        f"A pyramid wants pictures of {least} patches at least down and across, found {side}; give a "
                        "larger --image-size."
                    )
                sides.append(f"{name}_{side}" if isinstance(side, str) else _scaled(side, step, numbers["neck"]))
            specs.append(TensorSpec(name, (BATCH, numbers["channels"], *sides)))
        return tuple(specs)

    def head(self, backbone: Backbone, info: ModelInfo) -> nn.Module:
        """A backbone and its neck."""
        from vimdeploy.models.heads.pyramid import Pyramid as Network

        return Network(backbone, *neck_of(backbone.config, info.head))

    def rounding(self, info: ModelInfo) -> float:
        """The roundings of a map and of a neck. Seen: 22 units of float16 behind residuals, 31 behind mixers."""
        return 5.0

    def stages(self, info: ModelInfo) -> tuple[StageSpec, ...]:
        """The steps of the neck."""
        return neck_stages(info, [spec.name for spec in info.outputs])

    def check(self, info: ModelInfo) -> None:
        """A neck that there is, and its outputs."""
        check_neck(info)
        levels = len(steps(info.head["neck"], 16))
        if len(info.outputs) != levels:
            raise ConfigError(f"The neck {info.head['neck']} has {levels} levels, found {len(info.outputs)} outputs.")

    def answers(self, outputs: Outputs, info: ModelInfo, placements: Sequence[Placement] = ()) -> list[Answer]:
        """The levels of each picture."""
        batch = len(next(iter(outputs.values())))
        return [
            PyramidMaps(
                {name: values[number] for name, values in outputs.items()},
                placements[number].resized if placements else None,
            )
            for number in range(batch)
        ]

    def comparison(
        self, info: ModelInfo, classes: npt.NDArray[np.int64] | None = None, names: Sequence[str] = ()
    ) -> Comparison:
        """By nearest neighbours of the channels' means."""
        return Neighbours(classes, names)


_STARTS = {FPN: "neck.fpn", SIMPLE: "neck.simfp_"}
"""What the names of a neck's tensors begin with."""


def channels_of(shapes: Shapes, convolution: str, usual: tuple[int, int]) -> tuple[int, int]:
    """The channels that a convolution gives and takes; the usual ones if there is no such convolution."""
    shape = shapes.get(convolution, ())
    return (shape[0], shape[1]) if len(shape) == 4 and all(shape) else usual


def check_neck(info: ModelInfo) -> None:
    """Check what a file says of its neck.

    Raises:
        ConfigError: if there is no such neck.
    """
    kind, channels = info.head.get("neck"), info.head.get("channels")
    if kind not in NECKS or type(channels) is not int or not 1 <= channels <= _WIDEST:
        raise ConfigError(
            f"Wanted a neck, {' or '.join(NECKS)}, and the channels of its levels; found "
            f"{shortened(repr(info.head), 100)}."
        )


def neck_of(config: Any, numbers: Mapping[str, Any]) -> tuple[nn.Module, tuple[int, ...]]:
    """A neck of these numbers, and the blocks whose maps it reads; none if it reads the last map."""
    from vimdeploy.models.heads.pyramid import ConvTransposePyramid, SimplePyramid

    if numbers["neck"] == SIMPLE:
        return SimplePyramid(config.dim, numbers["channels"], level_of(config)), ()
    return ConvTransposePyramid(config.dim, config.patch_size), blocks_of(config.depth)


def blocks_of(depth: int) -> tuple[int, ...]:
    """The blocks at the ends of the four quarters of a backbone: 5, 11, 17, 23 of 24."""
    return tuple(depth * quarter // 4 - 1 for quarter in range(1, 5))


def neck_stages(info: ModelInfo, levels: Sequence[str] = ()) -> tuple[StageSpec, ...]:
    """The steps of a neck.

    Args:
        info: of the model; its head's numbers are at least those of a neck.
        levels: the names of the levels that are outputs of the file; none if they are not.
    """
    kind, channels, dim = info.head["neck"], int(info.head["channels"]), int(info.config["dim"])
    if kind == SIMPLE:
        return tuple(_simple_stages(dim, channels, _level(int(info.config["stride"])), levels))
    return tuple(_fpn_stages(dim, int(info.config["patch_size"]), levels))


def _fpn_stages(dim: int, patch_size: int, levels: Sequence[str]) -> Iterator[StageSpec]:
    first, second, third, fourth = levels or ("", "", "", "")
    if patch_size == 16:
        node = "neck.fpn1.ConvTranspose"
        weights = tuple(
            StoredWeight(node, i, f"neck.fpn1.folded.{part}") for i, part in enumerate(("weight", "bias"), 1)
        )
        yield _stage("neck.fpn1.2", dim, "neck.fpn1.2.Gelu", weights)
        yield _product("neck.fpn1.3", dim, first)
        yield _product("neck.fpn2.0", dim, second)
    else:
        yield _product("neck.fpn1.0", dim, first)
        yield _stage("neck.fpn3", 1, third or "neck.fpn3.MaxPool")
    yield _stage("neck.fpn4", 1, fourth or "neck.fpn4.MaxPool")


def _simple_stages(dim: int, channels: int, level: int, levels: Sequence[str]) -> Iterator[StageSpec]:
    half, quarter = dim // 2, dim // 4
    finest, finer, same, coarser = (f"neck.simfp_{number}" for number in range(level - 2, level + 2))
    enlarged = [_product(f"{finest}.0", dim), _norm(f"{finest}.1"), _product(f"{finest}.3", half)]
    pooled = [_stage(f"{coarser}.0", 1, f"{coarser}.0.MaxPool")]
    branches: tuple[tuple[str, int, list[StageSpec], int], ...] = (
        (finest, 4, enlarged, quarter),
        (finer, 1, [_product(f"{finer}.0", dim)], half),
        (same, 0, [], dim),
        (coarser, 1, pooled, dim),
    )
    *outputs, last = levels or ("", "", "", "", "")
    for (module, number, before, inner), output in zip(branches, outputs, strict=True):
        yield from before
        yield _normed_conv(f"{module}.{number}", inner)
        yield _normed_conv(f"{module}.{number + 1}", 9 * channels, output)
    yield _stage("neck.last", 1, last or "neck.last.MaxPool")


def _product(module: str, terms: int, output: str = "") -> StageSpec:
    """A transposed convolution."""
    node = f"{module}.ConvTranspose"
    weights = (StoredWeight(node, 1, f"{module}.weight"), StoredWeight(node, 2, f"{module}.bias"))
    return _stage(module, terms, output or node, weights)


def _norm(module: str) -> StageSpec:
    """A norm of the channels."""
    return _stage(module, 1, f"{module}.{_LAST_OF_NORM}", _weights_of_norm(module))


def _normed_conv(module: str, terms: int, output: str = "") -> StageSpec:
    """A convolution and its norm."""
    norm = f"{module}.norm"
    weights = (StoredWeight(f"{module}.Conv", 1, f"{module}.weight"), *_weights_of_norm(norm))
    return _stage(module, terms, output or f"{norm}.{_LAST_OF_NORM}", weights)


def _weights_of_norm(module: str) -> tuple[StoredWeight, ...]:
    node = f"{module}.LayerNormalization"
    return StoredWeight(node, 1, f"{module}.weight"), StoredWeight(node, 2, f"{module}.bias")


def _stage(module: str, terms: int, value: str, weights: tuple[StoredWeight, ...] = ()) -> StageSpec:
    return StageSpec(module, module, None, terms, module, value, weights, float32_in=_INT8)


def steps(neck: str, patch_size: int) -> tuple[int, ...]:
    """For each level, how many times its resolution is twice that of the map."""
    if neck == SIMPLE:
        return 2, 1, 0, -1, -2
    return (2, 1, 0, -1) if patch_size == 16 else (1, 0, -1, -2)


def _scaled(side: int, step: int, neck: str) -> int:
    """The side of a level."""
    if step >= 0:
        return side << step
    if neck == SIMPLE and step < -1:  # every second value of the level before, the first one too
        return -(-(side >> 1) // 2)
    return side >> -step


def level_of(config: Any) -> int:
    """The level of a backbone's map: it has a value every 2**level pixels.

    Raises:
        ConfigError: if its stride is no power of two from 4 on.
    """
    return _level(config.stride)


def _level(stride: int) -> int:
    """The level of a backbone's map.

    Raises:
        ConfigError: if its stride is no power of two from 4 on.
    """
    level = stride.bit_length() - 1
    if stride < 4 or stride != 1 << level:
        raise ConfigError(f"A pyramid wants a stride of a power of two, 4 pixels at least; found {stride}.")
    return level
