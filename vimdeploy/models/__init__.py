"""The models: a folder per architecture, the heads on them, and the table of all variants. Needs no torch."""

from __future__ import annotations

import difflib
import json
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vimdeploy.errors import CheckpointError, ConfigError
from vimdeploy.models.architecture import Architecture
from vimdeploy.models.deit.architecture import DeiTArchitecture
from vimdeploy.models.variant import Variant, checked_fields
from vimdeploy.models.vim.architecture import VimArchitecture
from vimdeploy.reading import read_text, shown, why
from vimdeploy.recipe import Recipe
from vimdeploy.text import reason_of, shortened

if TYPE_CHECKING:
    from vimdeploy.model_info import ModelInfo

BACKBONE = "backbone."
"""What the names of a backbone's tensors begin with; those of the head that stands on it do not."""

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture for architecture in (VimArchitecture(), DeiTArchitecture())
}
VARIANTS: dict[str, Variant] = {
    name: variant for architecture in ARCHITECTURES.values() for name, variant in architecture.variants.items()
}


def architecture_of(info: ModelInfo) -> Architecture | None:
    """The architecture of a file; None for a model that somebody brought.

    Raises:
        ConfigError: if this vimdeploy does not know it.
    """
    if info.architecture and info.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"This vimdeploy does not know the architecture {info.architecture!r}; it knows {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES.get(info.architecture)


def variant_by_name(name: str) -> Variant:
    """The variant that a command's VARIANT means.

    Args:
        name: a released variant, also by its short name, ``vim_tiny``; an entry point of hustvl/Vim; or a file
            ``NAME.json`` that describes a model of your own: ``{"architecture": "vim", "config": {...}, "recipe":
            {...}, "labels": [...]}`` with the fields of the architecture's config and of Recipe.

    Raises:
        ConfigError: for any other name (suggests the nearest), or a file that describes no model.
    """
    if name.endswith(".json"):
        return _variant_from_file(Path(name))
    short_names = {variant.short_name: variant for variant in VARIANTS.values()}
    upstream_names = {variant.upstream_name: variant for variant in VARIANTS.values() if variant.upstream_name}
    by_name = VARIANTS | short_names | upstream_names
    if name in by_name:
        return by_name[name]
    if name.endswith(".py"):
        raise ConfigError(
            f"A Python file wants the function that makes the model: {shortened(name, 100)}:make, for example."
        )
    near = difflib.get_close_matches(name, [*VARIANTS, *short_names], n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    found = shortened(repr(name), 100)
    raise ConfigError(f"There is no variant {found}.{hint} The variants are: {', '.join(short_names)}.")


@dataclass(frozen=True)
class _Description:
    """The fields of a NAME.json."""

    config: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    architecture: str = "vim"
    name: str = ""


def _variant_from_file(path: Path) -> Variant:
    try:
        described = _Description(**checked_fields(_Description, _object_in(path)))
        if described.architecture not in ARCHITECTURES:
            found = shortened(repr(described.architecture), 60)
            raise ConfigError(f"architecture must be one of {', '.join(ARCHITECTURES)}, found {found}.")
        return Variant(
            described.name or path.stem,
            described.architecture,
            ARCHITECTURES[described.architecture].config(described.config),
            Recipe(**checked_fields(Recipe, described.recipe)),
            described.labels,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"There is no model description {shown(path)}.") from error
    except ConfigError as error:
        raise ConfigError(f"{shown(path)} does not describe a model: {error}") from error


def _object_in(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: if there is no file.
        ConfigError: if there is no object in it; does not name the file.
    """
    try:
        found = json.loads(read_text(path))
    except FileNotFoundError:
        raise
    except json.JSONDecodeError as error:
        raise ConfigError(f"it is no JSON: {reason_of(error)}.") from error
    except RecursionError as error:
        raise ConfigError("its JSON nests too deep.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{why(error)}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"wanted an object, {{...}}, found {reprlib.repr(found)}.")
    return found


def labels_from_file(path: Path) -> tuple[str, ...]:
    """Names of classes, one per line, in the order of the logits.

    ``coco`` and ``imagenet`` stand for COCO's 80 and ImageNet's 1000, if they are no files.

    Raises:
        ConfigError: if the file cannot be read.
    """
    try:
        if str(path) in ("coco", "imagenet") and not path.exists():
            from vimdeploy import coco, imagenet

            return coco.NAMES if str(path) == "coco" else imagenet.names()
        return tuple(line.strip() for line in read_text(path).split("\n") if line.strip())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Wanted a text file with one label per line, but {shown(path)} cannot be read: {why(error)}."
        ) from error


def strict_weights(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> list[str]:
    """Hold the tensors of a checkpoint against those of a network.

    Args:
        wanted: shapes by name, of the network.
        found: shapes by name, of the checkpoint, under the network's names.

    Returns:
        The names that the network has no use for: those of a head that it does not have.

    Raises:
        CheckpointError: lists the names that are missing or unused, and the first shapes that differ.
    """
    passed_over = sorted(name for name in found.keys() - wanted if not name.startswith(BACKBONE))
    missing, unused = sorted(wanted.keys() - found), sorted(found.keys() - wanted - set(passed_over))
    if missing or unused:
        raise CheckpointError(
            "The checkpoint's keys are not those of this model. "
            f"Missing ({len(missing)}): {_first(missing)}. Unused ({len(unused)}): {_first(unused)}."
        )
    differing = [
        f"{_short(name)}: wanted {list(wanted[name])}, found {list(found[name])}"
        for name in wanted
        if wanted[name] != found[name]
    ]
    if differing:
        raise CheckpointError(f"{len(differing)} shapes are not those of this model: {_first(differing)}.")
    return passed_over


def _short(name: str) -> str:
    return name.removeprefix(BACKBONE)


def _first(items: list[str], count: int = 6) -> str:
    """The first items, as a list in a sentence."""
    return (
        ", ".join(shortened(_short(item), 70) for item in items[:count]) + (", ..." if len(items) > count else "")
    ) or "none"
