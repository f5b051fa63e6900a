"""Vision Mamba (https://arxiv.org/abs/2401.09417) in plain PyTorch, answer for answer the backbone of hustvl/Vim."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.models.backbone import Backbone, Features
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.models.vim.layers import BidirectionalMamba, Block, PatchEmbed, RMSNorm, Rotation, rotated


class Vim(Backbone):
    """A Vision Mamba without a head: pictures (B, C, H, W) float32 -> tokens (B, L, D) float32."""

    def __init__(self, config: VimConfig, any_size: bool = False) -> None:
        """Make the modules, with random weights.

        Args:
            config: of the model; its image size is that of the stored position embedding.
            any_size: take pictures of every size, and resize the position embedding to each.
        """
        super().__init__()
        self.config = config
        self.any_size = any_size
        self.patch_embed = PatchEmbed(config)
        if config.class_token != "none":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.dim))
        self.position = Position(config, any_size)
        self.rotation = Rotation(config.dim, any_size) if config.rotary else None
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))
        if config.final_norm:
            self.norm_f = RMSNorm(config.dim, config.norm_eps)

    def features(self, images: Tensor, blocks: Sequence[int] = ()) -> Features:
        """(B, C, H, W) -> maps (B, D, rows, columns) and the pooled vector (B, D)."""
        last = len(self.layers) - 1
        residual, (*of_blocks, of_last) = self._tokens(images, (*blocks, last))
        tokens = self._normed(residual, of_last)
        position = self._class_position(images)
        return Features(
            map=self._map(tokens, images),
            pooled=tokens.mean(dim=1) if position is None else tokens[:, position],
            blocks=[self._map(of_block, images) for of_block in of_blocks],
        )

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): the class token after the last norm, or the mean of all tokens if there is none."""
        residual, (of_last,) = self._tokens(images, (len(self.layers) - 1,))
        position = self._class_position(images)
        if position is None:
            return self._normed(residual, of_last).mean(dim=1)
        return self._normed(residual[:, position], of_last[:, position])

    def _normed(self, residual: Tensor, of_last: Tensor) -> Tensor:
        """The residual after the last norm; without one, what the map of the last block is made of."""
        return self.norm_f(residual) if self.config.final_norm else of_last

    def stored_tensors(self) -> dict[str, Tensor]:
        """What an exported file stores, beside the parameters: the mixers' operands, and the parts of pos_embed."""
        with torch.no_grad():
            stored = {
                f"{name}.{operand}": tensor
                for name, module in self.named_modules()
                if isinstance(module, BidirectionalMamba)
                for operand, tensor in module.operands()._asdict().items()
            }
            if self.any_size:
                grid, class_row = _grid_and_class_row(self.pos_embed.detach(), self.config)
                stored |= {"pos_embed.grid": grid}
                if class_row is not None:
                    stored |= {"pos_embed.class_row": class_row}
        return stored

    def _tokens(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The residual after the last block, and what the map of each asked block is made of; (B, L, D) each."""
        rows, columns = self._grid(images)
        x = self.patch_embed(images)  # (B, M, D)
        if self.config.class_token != "none":
            x = _with_class_token(x, self.cls_token, self.config)  # (B, L, D)
        x = self.position(x if self.any_size else x + self.pos_embed, self.pos_embed, rows, columns)
        turn = self.rotation(rows, columns, x.device) if self.rotation is not None else None
        found: dict[int, Tensor] = {}
        last = len(self.layers) - 1
        for block, layer in enumerate(self.layers):
            if turn is not None:
                x = rotated(x, *turn)
                if self.config.block_feature == "rotated":
                    found[block - 1] = x
            x, mixed = layer(x)
            if self.config.block_feature == "mixer":
                found[block] = mixed
            elif self.config.block_feature == "residual" or block == last:
                found[block] = x
        return x, [found[block] for block in blocks]

    def _grid(self, images: Tensor) -> tuple[int, int]:
        """Patches down and across."""
        patch, stride = self.config.patch_size, self.config.stride
        return (images.shape[2] - patch) // stride + 1, (images.shape[3] - patch) // stride + 1

    def _class_position(self, images: Tensor) -> int | None:
        """Where among the tokens of a picture the class token stands."""
        rows, columns = self._grid(images)
        return class_token_position(self.config, rows * columns)

    def _map(self, tokens: Tensor, images: Tensor) -> Tensor:
        """(B, L, D) -> (B, D, rows, columns): the patches' tokens in their places."""
        rows, columns = self._grid(images)
        position = class_token_position(self.config, rows * columns)
        if position is not None:
            index = torch.arange(rows * columns, device=tokens.device)
            tokens = tokens.index_select(1, index + (index >= position).long())
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))


class Position(nn.Module):
    """Adds the position embedding of any grid; passes on what has one already."""

    def __init__(self, config: VimConfig, any_size: bool) -> None:
        super().__init__()
        self.config, self.any_size = config, any_size

    def forward(self, x: Tensor, pos_embed: Tensor, rows: int, columns: int) -> Tensor:
        """(B, L, D) and the stored embedding (1, L of the trained size, D) -> (B, L, D)."""
        return x + resize_pos_embed(pos_embed, self.config, rows, columns) if self.any_size else x


def class_token_position(config: VimConfig, patches: int) -> int | None:
    """Where among its tokens the class token of so many patches stands; None if there is none."""
    return {"middle": patches // 2, "first": 0, "none": None}[config.class_token]


def resize_pos_embed(pos_embed: Tensor, config: VimConfig, rows: int, columns: int) -> Tensor:
    """Fit a position embedding to another grid of patches, at export or inside the exported graph.

    The class token's row is taken out where it stands, the grid is interpolated (bicubic), and the row is put back
    where it stands in the new grid. Upstream takes row 0 for the class token, which is wrong for a token in the middle.

    Args:
        pos_embed: (1, L of the trained size, D) float32.
        config: of the model that it belongs to.
        rows: of the new grid.
        columns: of the new grid.

    Returns:
        (1, L of the new size, D).
    """
    grid, class_row = _grid_and_class_row(pos_embed, config)
    resized = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    patches = resized.flatten(2).transpose(1, 2)  # (1, M, D)
    return patches if class_row is None else _with_class_token(patches, class_row, config)


def _grid_and_class_row(pos_embed: Tensor, config: VimConfig) -> tuple[Tensor, Tensor | None]:
    """The grid (1, D, rows, columns) of a position embedding, and the row of the class token, (1, 1, D)."""
    position, class_row = class_token_position(config, config.patches), None
    if position is not None:
        class_row = pos_embed[:, position : position + 1]
        pos_embed = torch.cat([pos_embed[:, :position], pos_embed[:, position + 1 :]], dim=1)
    return pos_embed.transpose(1, 2).unflatten(2, config.grid), class_row


def _with_class_token(patches: Tensor, token: Tensor, config: VimConfig) -> Tensor:
    """(., M, D) and (1, 1, D) -> (., L, D): the class token among the patches.

    A gather and a choice insert it, so that the exported graph needs no arithmetic on the batch.
    """
    position = class_token_position(config, patches.shape[1])
    assert position is not None  # of a model with a class token
    index = torch.arange(patches.shape[1] + 1, device=patches.device)
    source = index - (index > position).long()
    return torch.where((index == position)[None, :, None], token, patches.index_select(1, source))


def reset_parameters(network: nn.Module) -> None:
    """Initialise a network on a ``Vim`` for training, as upstream does.

    Files of ``--random-weights`` name their seed alone, so the order of the random numbers must stay what it is.
    """
    for name, parameter in network.named_parameters():
        if name in ("backbone.cls_token", "backbone.pos_embed", "head.weight"):
            nn.init.trunc_normal_(parameter, std=0.02)
        elif name in ("head.bias", "backbone.patch_embed.proj.bias"):
            nn.init.zeros_(parameter)
    for module in network.modules():
        if isinstance(module, BidirectionalMamba):
            module.reset_parameters(len(network.get_submodule("backbone.layers")))  # type: ignore[arg-type]
