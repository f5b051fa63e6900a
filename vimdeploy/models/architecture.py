"""What an architecture is to everybody else: one object per architecture, in the table ``models.ARCHITECTURES``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from vimdeploy.models.stages import StageSpec
from vimdeploy.models.variant import Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vimdeploy.checkpoint import Checkpoint
    from vimdeploy.models.backbone import Backbone


class CheckpointModel(NamedTuple):
    """What a checkpoint holds."""

    config: Any
    """The architecture's config."""
    tensors: dict[str, Tensor]
    """Under the names of our modules: ``backbone.`` and what stands on it, ``head.`` or ``neck.`` for example."""
    passed_over: tuple[str, ...] = ()
    """The tensors that no task of ours has a use for, under the names of the file."""
    names: Mapping[str, str] = {}
    """What the file calls those of ``tensors`` that it calls something else."""


class Architecture(ABC):
    """A family of backbones: its numbers, its modules, its stages, its checkpoints. Importing one needs no torch."""

    name: str
    variants: Mapping[str, Variant]
    """Those that somebody released."""
    operators: tuple[str, ...] = ()
    """The operators of ours that its models are made of."""

    @abstractmethod
    def config(self, numbers: Mapping[str, Any]) -> Any:
        """The architecture's ``Config``.

        Raises:
            ConfigError: if no model can have these numbers, or for one that the architecture does not know.
        """

    @abstractmethod
    def backbone(self, config: Any, any_size: bool = False) -> Backbone:
        """The modules, with torch's initial weights.

        Args:
            config: of the model, at the image size that the weights are for.
            any_size: whether it is to take pictures of every size.

        Raises:
            ConfigError: if it cannot.
        """

    def dense(self, config: Any) -> Any:
        """The config of the same backbone under a head of segmentation or detection."""
        return config

    @abstractmethod
    def reset_parameters(self, network: nn.Module) -> None:
        """Initialise a whole network, its head too, for training."""

    @abstractmethod
    def from_checkpoint(self, checkpoint: Checkpoint, variant: Variant) -> CheckpointModel:
        """Read a checkpoint as a model like a variant.

        Raises:
            CheckpointError: if it holds another model: says which one fits.
        """

    @abstractmethod
    def at_image_size(self, tensors: dict[str, Tensor], config: Any, image_size: tuple[int, int]) -> dict[str, Tensor]:
        """A model's tensors for another image size, in pixels: the position embedding resized."""

    def stages(self, config: Any, any_size: bool = False) -> tuple[StageSpec, ...]:
        """The backbone's steps whose values can be compared; none if nobody has listed them."""
        return ()
