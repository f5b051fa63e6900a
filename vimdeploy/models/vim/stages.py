"""The stages of a Vim backbone: the one table that knows its modules, the nodes of its exports and their weights."""

from __future__ import annotations

from collections.abc import Iterator

from vimdeploy.models.stages import StageSpec, StoredWeight
from vimdeploy.models.vim.config import VimConfig

_ALWAYS = ("fp16", "bf16", "int8")
_INT8 = ("int8",)
"""An int8 file is in int8 in its Linear layers alone."""


def stages_of(config: VimConfig, any_size: bool = False) -> tuple[StageSpec, ...]:
    """All stages in the order in which they are computed.

    Args:
        config: of the model.
        any_size: whether the file takes pictures of any size, and stores the position embedding as its grid.
    """
    return tuple(_stages(config, any_size))


def _stages(config: VimConfig, any_size: bool) -> Iterator[StageSpec]:
    d = config.dim
    conv = "patch_embed.proj.Conv"
    yield StageSpec(
        "patch_embed",
        "patch_embed",
        None,
        config.in_channels * config.patch_size**2,
        module="backbone.patch_embed",
        value="patch_embed.Transpose",
        weights=(
            StoredWeight(conv, 1, "backbone.patch_embed.proj.weight"),
            StoredWeight(conv, 2, "backbone.patch_embed.proj.bias"),
        ),
        float32_in=_INT8,
        before_blocks=True,
    )
    yield StageSpec(
        "pos_embed",
        "pos_embed",
        None,
        1,
        module="backbone.position",
        value="position.Add" if any_size else "Add",
        weights=tuple(_position_weights(config, any_size)),
        float32_in=_ALWAYS,
        before_blocks=True,
        # Interpolated at coordinates of float32 up to the grid's side, times a slope of a few values a step; seen: 114
        # units on a grid of 64.
        more_units=4 * max(config.grid) if any_size else 0.0,
    )
    for block in range(config.depth):
        yield from _block(config, block)
    if config.final_norm:
        yield StageSpec(
            "norm_f",
            "norm_f",
            None,
            d,
            module="backbone.norm_f",
            value="norm_f.Mul",
            weights=(StoredWeight("norm_f.Mul", 1, "backbone.norm_f.weight"),),
            float32_in=_ALWAYS,
        )


def _position_weights(config: VimConfig, any_size: bool) -> Iterator[StoredWeight]:
    has_class_token = config.class_token != "none"
    if not any_size:
        if has_class_token:
            yield StoredWeight("Where", 1, "backbone.cls_token")
        yield StoredWeight("Add", 1, "backbone.pos_embed")
        return
    yield StoredWeight("position.Resize", 0, "backbone.pos_embed.grid")
    if has_class_token:
        yield StoredWeight("Where", 1, "backbone.cls_token")
        yield StoredWeight("position.Where", 1, "backbone.pos_embed.class_row")


def _block(config: VimConfig, block: int) -> Iterator[StageSpec]:
    d, e = config.dim, config.channels
    layer = f"layers.{block}"
    mixer, module = f"{layer}.mixer", f"backbone.{layer}.mixer"
    yield StageSpec(
        f"{layer}.norm",
        "norm",
        block,
        d,
        module=f"backbone.{layer}.norm",
        value=f"{layer}.norm.Mul",
        weights=(StoredWeight(f"{layer}.norm.Mul", 1, f"backbone.{layer}.norm.weight"),),
        float32_in=_ALWAYS,
    )
    yield StageSpec(
        f"{mixer}.in_proj",
        "in_proj",
        block,
        d,
        module=f"{module}.in_proj",
        value=f"{mixer}.in_proj.MatMul",
        weights=(StoredWeight(f"{mixer}.in_proj.MatMul", 1, f"{module}.in_proj.weight", transposed=True),),
    )
    conv, scan = f"{mixer}.BidirectionalConv1d", f"{mixer}.BidirectionalSelectiveScan"
    yield StageSpec(
        f"{mixer}.conv1d",
        "conv1d",
        block,
        config.conv_width,
        module=f"{module}.after_conv1d",
        value=conv,
        weights=(StoredWeight(conv, 1, f"{module}.conv_weight"), StoredWeight(conv, 2, f"{module}.conv_bias")),
        batch_axis=1,
        float32_in=_INT8,
    )
    yield StageSpec(
        f"{mixer}.x_proj",
        "x_proj",
        block,
        e,
        module=f"{module}.after_x_proj",
        value=f"{mixer}.MatMul",
        weights=(StoredWeight(f"{mixer}.MatMul", 1, f"{module}.x_weight"),),
        batch_axis=1,
        float32_in=_INT8,
    )
    yield StageSpec(
        f"{mixer}.scan",
        "scan",
        block,
        config.tokens,
        module=f"{module}.after_scan",
        value=scan,
        weights=tuple(
            StoredWeight(scan, position, f"{module}.{operand}")
            for position, operand in enumerate(("dt_weight", "dt_bias", "A", "D"), 3)
        ),
        float32_in=_INT8,
    )
    yield StageSpec(
        f"{mixer}.out_proj",
        "out_proj",
        block,
        e,
        module=f"{module}.out_proj",
        value=f"{mixer}.out_proj.MatMul",
        weights=(StoredWeight(f"{mixer}.out_proj.MatMul", 1, f"{module}.out_proj.weight", transposed=True),),
    )
    if block == config.depth - 1 and config.block_feature == "mixer" and not config.final_norm:
        return  # nobody reads the residual after it
    yield StageSpec(
        layer, "residual", block, block + 1, module=f"backbone.{layer}", value=f"{layer}.Add", float32_in=_INT8
    )
