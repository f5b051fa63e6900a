"""As much of Triton as it takes to import a file with kernels; running one is refused."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from vimdeploy.compat.refusals import refusing

_REASON = "Triton is not installed here, and vimdeploy stands in for it only while a model is imported"


class Kernel:
    """What ``triton.jit`` makes of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function
        self.__name__ = function.__name__

    def __getitem__(self, grid: Any) -> Callable[..., NoReturn]:
        return refusing(f"the Triton kernel {self.__name__}", _REASON)

    def __call__(self, *arguments: Any, **options: Any) -> NoReturn:
        """A kernel is not called but launched on a grid."""
        self[None]()


class Config:
    """``triton.Config``."""

    def __init__(self, kwargs: dict[str, Any], num_warps: int = 4, num_stages: int = 3, **options: Any) -> None:
        self.kwargs, self.num_warps, self.num_stages = kwargs, num_warps, num_stages


class Word:
    """Any name of ``triton.language``: it stands in annotations and decorates, and has any attribute."""

    def __getattr__(self, name: str) -> Word:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As a decorator the function itself."""
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else self


class Language(ModuleType):
    """A module of Triton in which every name is there."""

    def __getattr__(self, name: str) -> Word:
        if name.startswith("__"):
            raise AttributeError(name)
        return Word()


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """``triton.jit``, with brackets or without."""
    return Kernel if function is None else Kernel(function)


def unchanged(*arguments: Any, **options: Any) -> Callable[[Kernel], Kernel]:
    """``triton.autotune`` and ``triton.heuristics``."""
    return lambda kernel: kernel


def cdiv(number: int, divisor: int) -> int:
    """``triton.cdiv``: division, rounded up."""
    return -(-number // divisor)


def next_power_of_2(number: int) -> int:
    """``triton.next_power_of_2``."""
    return 1 << (number - 1).bit_length()


TRITON = {
    "__version__": "3.0.0",
    "jit": jit,
    "autotune": unchanged,
    "heuristics": unchanged,
    "Config": Config,
    "cdiv": cdiv,
    "next_power_of_2": next_power_of_2,
}
