"""What a file is measured as."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vimdeploy.artifact import is_ours
from vimdeploy.engine_file import is_engine

Kind = Literal["engine", "ours", "foreign", "eager"]
"""An engine, an ONNX file of vimdeploy's or of another program, or a model in PyTorch as it is."""

_EAGER = (".pth", ".pt", ".safetensors", ".json")
"""Checkpoints; and descriptions, whose models get random weights."""


def kind_of(path: Path) -> Kind:
    """The kind of a file, by its name; of ONNX files by what is in them.

    Raises:
        ModelFileError: for an ONNX file that is not there or damaged.
    """
    if is_engine(path):
        return "engine"
    if path.suffix in _EAGER:
        return "eager"
    return "ours" if is_ours(path) else "foreign"
