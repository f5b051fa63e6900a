"""Vision Mamba (https://arxiv.org/abs/2401.09417) in plain PyTorch, answer for answer the model of hustvl/Vim."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimdeploy.errors import CheckpointError
from vimdeploy.models.config import VimConfig
from vimdeploy.models.layers import BidirectionalMamba, Block, PatchEmbed, RMSNorm


class Vim(nn.Module):
    """A Vision Mamba classifier: (B, C, H, W) float32 -> logits (B, classes) float32."""

    token_source: Tensor
    is_class_token: Tensor

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        position = config.class_token_index
        if position is not None:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
            source = [*range(position), 0, *range(position, config.patches)]
            self.register_buffer("token_source", torch.tensor(source), persistent=False)  # (L,)
            is_class_token = (torch.arange(config.tokens) == position)[None, :, None]  # (1, L, 1)
            self.register_buffer("is_class_token", is_class_token, persistent=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.dim))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_f = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise for training, as upstream does."""
        for name, parameter in self.named_parameters():
            if name in ("cls_token", "pos_embed", "head.weight"):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name in ("head.bias", "patch_embed.proj.bias"):
                nn.init.zeros_(parameter)
        for module in self.modules():
            if isinstance(module, BidirectionalMamba):
                module.reset_parameters(self.config.depth)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        x = self.patch_embed(images)  # (B, M, D)
        position = self.config.class_token_index
        if position is not None:
            # A gather and a choice insert the token, so that the exported graph needs no arithmetic on the batch.
            x = torch.where(self.is_class_token, self.cls_token, x.index_select(1, self.token_source))  # (B, L, D)
        x = x + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        x = self.norm_f(x if position is None else x[:, position])
        return self.head(x.mean(dim=1) if position is None else x)


def vim_with_random_weights(config: VimConfig, seed: int) -> Vim:
    """A Vim as it is before training, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vim(config).eval()


def vim_from_tensors(config: VimConfig, tensors: dict[str, Tensor], image_size: tuple[int, int] | None = None) -> Vim:
    """A Vim with the weights of a checkpoint.

    Args:
        config: the model that was trained, its image size too.
        tensors: the weights under the checkpoint's names, any float type.
        image_size: another size to take pictures in; the position embedding is resized to it.

    Raises:
        CheckpointError: lists the keys that are missing or unused, and the first shapes that differ.
    """
    trained = Vim(config)
    wanted = trained.state_dict()
    missing, unused = sorted(wanted.keys() - tensors), sorted(tensors.keys() - wanted)
    if missing or unused:
        raise CheckpointError(
            "The checkpoint's keys are not those of this model. "
            f"Missing ({len(missing)}): {_first(missing)}. Unused ({len(unused)}): {_first(unused)}."
        )
    differing = [
        f"{name}: wanted {list(wanted[name].shape)}, found {list(tensors[name].shape)}"
        for name in wanted
        if wanted[name].shape != tensors[name].shape
    ]
    if differing:
        raise CheckpointError(f"{len(differing)} shapes are not those of this model: {_first(differing)}.")
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    if image_size in (None, config.image_size):
        model = trained
    else:
        model = Vim(config.replace(image_size=image_size))
        weights["pos_embed"] = resize_pos_embed(weights["pos_embed"], config, model.config)
    model.load_state_dict(weights)
    return model.eval()


def resize_pos_embed(pos_embed: Tensor, trained: VimConfig, wanted: VimConfig) -> Tensor:
    """Fit a position embedding to another size of picture.

    The class token's row is taken out where it stands, the grid is interpolated (bicubic), the row is put back where it
    stands in the new grid. Upstream takes row 0 for the class token, which is wrong for a token in the middle.

    Args:
        pos_embed: (1, trained.tokens, D) float32.
        trained: the model it belongs to.
        wanted: the same model at another image size.

    Returns:
        (1, wanted.tokens, D).
    """
    rows = pos_embed[0]  # (trained.tokens, D)
    old, new = trained.class_token_index, wanted.class_token_index
    patches = rows if old is None else torch.cat([rows[:old], rows[old + 1 :]])
    grid = patches.T.unflatten(1, trained.grid)[None]  # (1, D, rows, columns)
    grid = F.interpolate(grid, size=wanted.grid, mode="bicubic", align_corners=False)
    resized = grid.flatten(2).transpose(1, 2)  # (1, M, D)
    if old is None:
        return resized
    return torch.cat([resized[:, :new], pos_embed[:, old : old + 1], resized[:, new:]], dim=1)


def _first(items: list[str], count: int = 6) -> str:
    """The first items, as a list in a sentence."""
    return (", ".join(items[:count]) + (", ..." if len(items) > count else "")) or "none"
