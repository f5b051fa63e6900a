"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from vimdeploy.errors import ConfigError


class ImageSize(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """``224`` or ``HxW``, in pixels."""

    name = "H[xW]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """To (height, width)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
        if not match:
            self.fail(f"wanted a size such as 224 or 384x512 (height x width), found {value!r}.", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class ImageSizes(click.ParamType):  # type: ignore[type-arg]
    """``224,384x512``: image sizes, none twice."""

    name = "H[xW][,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        """To heights and widths in their order."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(ImageSize().convert(part, param, ctx) for part in value.split(",")))


class Batch(click.ParamType):  # type: ignore[type-arg]
    """``MIN,OPT,MAX``, or one number for all three."""

    name = "MIN,OPT,MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """To three batch sizes."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)(?:,(\d+),(\d+))?", value)
        if not match:
            self.fail(f"wanted batch sizes such as 1,1,8 (smallest, best, largest) or 8, found {value!r}.", param, ctx)
        return int(match[1]), int(match[2] or match[1]), int(match[3] or match[1])


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """``1,4``: whole numbers of at least 1, none twice."""

    name = "N[,N...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """To the numbers in their order."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(re.fullmatch(r"0*[1-9]\d*", part) for part in parts):
            self.fail(f"wanted whole numbers of at least 1, such as 1,4; found {value!r}.", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


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


PATH = click.Path(path_type=Path)

artifact_argument = click.argument("artifact", type=PATH)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that one operator may use. Default: all cores."
)
operators_option = click.option(
    "--operators",
    type=click.Choice(["auto", "library", "function body"]),
    default="auto",
    show_default=True,
    help="What computes our operators: the compiled library, or the body in the file. auto: the library if installed.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run. auto: on a GPU where that can be done here; cuda: nowhere else.",
)
engine_code_option = click.option(
    "--allow-engine-code", is_flag=True, help="Run the code that an engine carries; allow it if you trust its builder."
)
checkpoint_option = click.option(
    "-c",
    "--checkpoint",
    metavar="FILE|hf://OWNER/REPO[/FILE]",
    help="The weights: .pth (a training state or a state dict) or .safetensors. Nothing in it is executed.",
)


def engine_options(artifact: Path, allow_engine_code: bool) -> dict[str, Any]:
    """The options that engines alone take.

    Raises:
        ConfigError: where one is given for a file that is no engine.
    """
    from vimdeploy.engine_file import is_engine

    if is_engine(artifact):
        return {"allow_engine_code": allow_engine_code}
    if allow_engine_code:
        raise ConfigError(f"--allow-engine-code is for engines; {artifact} is none.")
    return {}
