"""Names that a model may import and must not use, for vimdeploy has no operator that answers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from torch import nn

from vimdeploy.errors import ConfigError

MAMBA_2 = "vimdeploy runs the selective scan of Mamba-1 and no operator of Mamba-2 or Mamba-3"
BACKWARD = "vimdeploy stands in for this extension, and only its forward pass; train where the extension itself works"


def refusing(name: str, reason: str) -> Callable[..., NoReturn]:
    """A function of that name which only says why it cannot be called."""

    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise ConfigError(f"The model uses {name}: {reason}.")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def refusing_module(name: str, reason: str) -> type[nn.Module]:
    """A class of that name which can be imported, named as a type and subclassed, but not built."""
    return type(name, (nn.Module,), {"__init__": refusing(name, reason)})
