"""The classes of ImageNet-1k, which the released classifiers were trained on."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def synsets() -> dict[str, str]:
    """Names by WordNet's numbers of the synsets, ``n01440764`` for example, in the order of the logits."""
    lines = (resources.files("vimdeploy") / "imagenet.txt").read_text("utf-8").splitlines()
    return {line[:9]: line[10:] for line in lines if not line.startswith("#")}


@cache
def names() -> tuple[str, ...]:
    """The names, in the order of the logits; no two are equal."""
    return tuple(synsets().values())
