"""Where the subjects of a run come from: files, and models that are exported for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

EAGER = "eager"
"""The first artifact's model in PyTorch, with random weights."""
BASELINES = ("deit_tiny", "deit_small", "deit_base")
"""Attention models of the sizes of Vim-Ti, S and B."""


@dataclass(frozen=True)
class Source:
    """One line of comparison: a file as it is, or a model to be exported at every size."""

    name: str
    """In tables and figures."""
    file: Path | None = None
    model: str = ""
    """A variant, as ``variant_by_name`` takes it, or one of ``BASELINES``; empty for files."""
    checkpoint: str = ""
    """To be downloaded: ``hf://owner/repo[/file]``."""
    eager: bool = False
    """Measure the model, or that of the file, in PyTorch as it is, with random weights."""
    fused_attention: bool = False
    """Of baselines: ONNX Runtime's MultiHeadAttention instead of the nodes that torch exports."""


def sources_of(artifacts: Iterable[str], baselines: Iterable[str]) -> list[Source]:
    """What a command line means.

    Args:
        artifacts: paths of files, ``hf://`` addresses of checkpoints, names of variants, or descriptions of models,
            ``NAME.json``; one at least.
        baselines: ``EAGER``, and some of ``BASELINES``, each of which becomes two sources.
    """
    sources = [_source_of(text) for text in artifacts]
    for name in baselines:
        if name == EAGER:
            sources.append(dataclasses.replace(sources[0], name=f"{sources[0].name}, eager PyTorch", eager=True))
            continue
        sources.append(Source(f"{name}, as exported", model=name))
        sources.append(Source(f"{name}, attention fused", model=name, fused_attention=True))
    return sources


def _source_of(text: str) -> Source:
    if text.startswith("hf://"):
        return Source(text, checkpoint=text)
    return Source(text, model=text) if _is_model(text) else Source(text, Path(text))


def _is_model(text: str) -> bool:
    path = Path(text)
    return path.suffix == ".json" or (not path.exists() and path.suffix == "" and path.name == text)
