"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import click

from vimdeploy.cli.console import tensorrt_heard
from vimdeploy.errors import ConfigError
from vimdeploy.gpu import device_of

OPERATORS = ("auto", "library", "function-body")
RUNTIMES = ("auto", "onnxruntime", "openvino", "tensorrt")
COMPUTE_PRECISIONS = ("fp32", "bf16")
_SIZE = re.compile(r"([1-9]\d*)(?:[xX]([1-9]\d*))?")


class ImageSize(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``224`` or ``384x512``, height by width, in pixels."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """To (height, width)."""
        if isinstance(value, tuple):
            return value
        match = _SIZE.fullmatch(value)
        if not match:
            self.fail(f"wanted a size such as 224 or 384x512 (height x width), found {value!r}.", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class ImageSizes(click.ParamType):  # type: ignore[type-arg]
    """``224,384x512``: image sizes, none twice."""

    name = "HxW[,HxW...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        """To heights and widths in their order."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(ImageSize().convert(part, param, ctx) for part in value.split(",")))


class SizeOrRange(click.ParamType):  # type: ignore[type-arg]
    """One image size; ``dynamic``; or the smallest and the largest of a range, ``224,1248``."""

    name = "HxW|MIN,MAX|dynamic"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """To (height, width), ``dynamic``, or a tuple of two sizes."""
        if not isinstance(value, str) or value == "dynamic":
            return value
        parts = value.split(",")
        if len(parts) > 2 or not all(_SIZE.fullmatch(part) for part in parts):
            self.fail(
                "wanted a size such as 224 or 384x512 (height x width), the smallest and the largest such as 224,1248, "
                f"or dynamic; found {value!r}.",
                param,
                ctx,
            )
        sizes = tuple(ImageSize().convert(part, param, ctx) for part in parts)
        return sizes[0] if len(sizes) == 1 else sizes


class Bounds(click.ParamType):  # type: ignore[type-arg]
    """``MIN,OPT,MAX``, or one number for all three."""

    name = "MIN,OPT,MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """To three sizes."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)(?:,(\d+),(\d+))?", value)
        if not match:
            self.fail(f"wanted sizes such as 1,1,8 (smallest, best, largest) or 8, found {value!r}.", param, ctx)
        return int(match[1]), int(match[2] or match[1]), int(match[3] or match[1])


class NamedBounds(click.ParamType):  # type: ignore[type-arg]
    """``height=224,640,1248``: a free dimension and its sizes."""

    name = "NAME=MIN,OPT,MAX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, int, int]]:
        """To the name and three sizes."""
        if isinstance(value, tuple):
            return value
        name, equals, sizes = value.partition("=")
        if not equals or not name:
            self.fail(f"wanted a dimension and its sizes, such as height=224,640,1248, found {value!r}.", param, ctx)
        return name, Bounds().convert(sizes, param, ctx)


class NamedSize(click.ParamType):  # type: ignore[type-arg]
    """``height=640``: a free dimension and its size."""

    name = "NAME=SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """To the name and the size."""
        if isinstance(value, tuple):
            return value
        name, equals, size = value.partition("=")
        if not equals or not name:
            self.fail(f"wanted a dimension and its size, such as batch=8, found {value!r}.", param, ctx)
        return name, click.IntRange(1, 1 << 24).convert(size, param, ctx)


class NamedBoundsList(click.ParamType):  # type: ignore[type-arg]
    """``batch=8,32,32 height=224``: free dimensions and their sizes, none twice."""

    name = "NAME=MIN,OPT,MAX ..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, tuple[int, int, int]]:
        """To the sizes by their names."""
        if isinstance(value, dict):
            return value
        parts = [NamedBounds().convert(part, param, ctx) for part in value.split()]
        found = dict(parts)
        if not parts or len(found) < len(parts):
            self.fail(f"wanted each dimension once, such as 'batch=8,32,32 height=224', found {value!r}.", param, ctx)
        return found


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """``1,4``: whole numbers, none twice."""

    name = "N[,N...]"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """To the numbers in their order."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(re.fullmatch(r"\d+", part) and int(part) >= self._least for part in parts):
            self.fail(f"wanted whole numbers of at least {self._least}, such as 1,4; found {value!r}.", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


class Names(click.ParamType):  # type: ignore[type-arg]
    """``images,mask``: names, none twice."""

    name = "NAME[,NAME...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """To the names in their order."""
        if isinstance(value, tuple):
            return value
        names = tuple(value.split(","))
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"wanted different names such as images,mask; found {value!r}.", param, ctx)
        return names


class FreeAxes(click.ParamType):  # type: ignore[type-arg]
    """``images:2=height,images:3=width``: axes of inputs that stay free, and a word for each."""

    name = "INPUT:AXIS=WORD[,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, dict[int, str]]:
        """To words by input and axis."""
        if isinstance(value, dict):
            return value
        free: dict[str, dict[int, str]] = {}
        for part in value.split(","):
            match = re.fullmatch(r"(.+):(\d+)=([A-Za-z_]\w*)", part)
            if not match or int(match[2]) in free.get(match[1], {}):
                self.fail(
                    f"wanted axes and their words, such as images:2=height,images:3=width; found {value!r}.", param, ctx
                )
            free.setdefault(match[1], {})[int(match[2])] = match[3]
        return free


class Bytes(click.ParamType):  # type: ignore[type-arg]
    """``512M`` or ``2G``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """To a number of bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)([KMG])", value, re.IGNORECASE)
        if not match:
            self.fail(f"wanted a size such as 512M or 2G, found {value!r}.", param, ctx)
        return int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2].upper()]


class DeviceName(click.ParamType):  # type: ignore[type-arg]
    """``auto``, ``cpu``, ``cuda``, or ``cuda:1``."""

    name = "auto|cpu|cuda[:N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """To the name of a device."""
        try:
            return str(device_of(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class OperatorsChoice(click.Choice):  # type: ignore[type-arg]
    """``OPERATORS``, and ``function body``, as ``function-body`` was spelled first."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """To one of ``OPERATORS``."""
        return super().convert(str(value).replace(" ", "-"), param, ctx)


PATH = click.Path(path_type=Path)

artifact_argument = click.argument("artifact", type=PATH)
images_argument = click.argument("images", nargs=-1, required=True)  # pictures that are none are told one by one
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of a table, for programs."
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Let one operator use this many threads, 1 to 1024. Default: all cores, which is fastest on an idle machine.",
)
resume_option = click.option(
    "--resume",
    is_flag=True,
    help="Go on with what -o has already, if it is there: pictures in it are passed over, so that the command that was "
    "interrupted can be given again.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="On a CPU, run this many pictures or batches side by side, each on one thread; 1 runs one after the other on "
    "all cores. Default: what is fastest, measured in the first seconds of a run that takes longer.",
)
operators_option = click.option(
    "--operators",
    type=OperatorsChoice(OPERATORS),
    default="auto",
    show_default=True,
    help="Choose what computes vimdeploy's operators: the compiled library, or the function body inside the file. auto "
    "takes the library if it is installed, because it is 6 to 11 times as fast.",
)
device_option = click.option(
    "--device",
    type=DeviceName(),
    metavar=DeviceName.name,
    default="auto",
    show_default=True,
    help="Choose the device to run on: cuda:1 is the second GPU. auto uses a GPU if one is usable; cuda fails instead "
    "of falling back to the CPU.",
)
providers_option = click.option(
    "--provider",
    "providers",
    type=Names(),
    metavar=Names.name,
    help="Run ONNX files on these execution providers of ONNX Runtime, first choice first, in place of those of "
    "--device: NvTensorRTRTXExecutionProvider, for example. Plugins that pip has installed (onnxruntime-ep-...) are "
    "found by the provider's name.",
)
cuda_graphs_option = click.option(
    "--cuda-graphs",
    is_flag=True,
    help="On a GPU, let ONNX Runtime capture a run and repeat it in one call, which pays for small batches; engines "
    "always do. It wants the compiled library, and is refused for files that compute sizes, such as detectors.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="auto",
    show_default=True,
    help="Choose the program that runs the file: auto takes ONNX Runtime, and TensorRT for engines. openvino computes "
    "with the function body, which it runs faster than ONNX Runtime does, but slower than the operator library.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(COMPUTE_PRECISIONS),
    help="With --runtime openvino, compute in this type: bf16 is faster on processors that have instructions for it, "
    "but rounds every value, the recurrence's too: verify tells what that costs. Default: fp32.",
)


def _hear_tensorrt(ctx: click.Context, param: click.Parameter, count: int) -> None:
    if count:
        ctx.with_resource(tensorrt_heard(logging.INFO if count == 1 else logging.DEBUG))


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_hear_tensorrt,
    help="Show TensorRT's warnings and what it tells of its work on standard error, to see what it makes of a model; "
    "-vv shows all that it says. Default: only the errors that end the command.",
)
engine_code_option = click.option(
    "--allow-engine-code",
    is_flag=True,
    help="Run the code that an engine carries. It can do all that you can do, so allow it only if you trust its "
    "builder.",
)
checkpoint_option = click.option(
    "-c",
    "--checkpoint",
    metavar="FILE|hf://OWNER/REPO[/FILE]",
    help="Take the weights from this file: .pth (a training state or a state dict) or .safetensors. Nothing in it is "
    "executed.",
)
model_option = click.option(
    "--model",
    "exported_from",
    metavar="FILE.py:FUNCTION",
    help="Take the PyTorch model that ARTIFACT was exported from, and its example inputs, from this function. The "
    "Python file is run: it can do all that you can do.",
)
image_size_option = click.option(
    "--image-size",
    type=ImageSize(),
    metavar=ImageSize.name,
    help="Set the image size in pixels, if the file leaves it open. Default: the size that the weights were trained "
    "at.",
)
uint8_option = click.option(
    "--uint8-input",
    is_flag=True,
    help="Let the file take pictures as bytes, (B, H, W, C) of uint8, and normalise them itself. Other programs only "
    "resize then, and a GPU gets a quarter of the bytes; the answers are the same.",
)
portable_option = click.option(
    "--portable",
    is_flag=True,
    help="Write standard operators of fixed shapes in place of vimdeploy's own, for runtimes that refuse the file "
    "otherwise: OpenVINO, IREE, TVM and others.",
)
batch_option = click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --portable, fix the batch at this many pictures; run takes any number, in parts of it. Default: 1, or "
    "the one that the model takes.",
)
loops_option = click.option(
    "--no-loops",
    "loops",
    flag_value=False,
    default=True,
    help="With --portable, write the steps of loops out, for runtimes without Scan, such as TVM and MNN; OpenVINO is "
    "several times as fast so. The file has five times as many nodes.",
)
seed_option = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Set the seed of the random inputs, so that a run can be repeated.",
)
