"""The steps of a Vim whose values can be compared: their names, their order, how many numbers each sums up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vimdeploy.models.config import VimConfig

MIXER_STAGES = ("in_proj", "conv1d", "x_proj", "scan", "out_proj")
BATCH_AXIS = {"conv1d": 1, "x_proj": 1}
"""Where the values of a stage have the batch, if not first: these two have the direction before it."""


@dataclass(frozen=True)
class StageName:
    """One step of the network."""

    name: str
    """After the module: ``layers.13.mixer.in_proj``; ``layers.13`` is the residual behind the block, ``pos_embed`` the
    tokens with their positions."""
    kind: str
    """The step within its block: ``norm``, ``in_proj`` ... ``residual``; elsewhere the name."""
    block: int | None
    """None before and behind the blocks."""
    terms: int
    """How many products one of its values sums up; of the scan, its tokens; of the residual, the blocks so far."""

    @property
    def title(self) -> str:
        """For people: ``Block 13, in_proj``."""
        return self.kind if self.block is None else f"Block {self.block}, {self.kind}"


def stages_of(config: VimConfig) -> list[StageName]:
    """All stages in the order in which they are computed."""
    return list(_stages(config))


def _stages(config: VimConfig) -> Iterator[StageName]:
    d, e = config.dim, config.channels
    yield StageName("patch_embed", "patch_embed", None, config.in_channels * config.patch_size**2)
    yield StageName("pos_embed", "pos_embed", None, 1)
    terms = {"in_proj": d, "conv1d": config.conv_width, "x_proj": e, "scan": config.tokens, "out_proj": e}
    for block in range(config.depth):
        yield StageName(f"layers.{block}.norm", "norm", block, d)
        for kind in MIXER_STAGES:
            yield StageName(f"layers.{block}.mixer.{kind}", kind, block, terms[kind])
        yield StageName(f"layers.{block}", "residual", block, block + 1)
    yield StageName("norm_f", "norm_f", None, d)
    yield StageName("head", "head", None, d)
