"""PyTorch as a runtime: the reference that artifacts are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vimdeploy.artifact import ModelInfo
from vimdeploy.models.stages import stages_of
from vimdeploy.models.vim import Vim
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Session, Stages


class EagerSession(Session):
    """A Vim in PyTorch on the CPU, its scan a plain loop over the tokens.

    It runs on one thread where no other number is asked for: the loop's operations are so small that threads only wait
    for each other. Vim-Ti at 224 took 270 ms on one and 307 ms on two idle cores, which are torch's own choice; on a
    busy machine the wait is a hundred times as long as the work.
    """

    def __init__(self, model: Vim, info: ModelInfo, threads: int | None = None) -> None:
        self._threads = threads or 1
        self.model = model.eval()
        self.info = info
        self.device = "cpu"
        self.operators = "eager"

    def _run(self, array: FloatArray) -> FloatArray:
        with _inference(self._threads):
            logits: FloatArray = self.model(torch.from_numpy(array)).numpy()
        return logits

    def open_stages(self) -> Stages:
        """By hooks on the modules."""
        return EagerStages(self.model, self._threads)


class EagerStages(Stages):
    """What the modules of a Vim give."""

    def __init__(self, model: Vim, threads: int) -> None:
        self._model, self._threads = model, threads
        self._modules = dict(model.named_modules())
        self.names = frozenset(stage.name for stage in stages_of(model.config))

    def values(self, array: FloatArray) -> dict[str, FloatArray]:
        """Every stage's value."""
        return self._run(array, {})

    def values_apart(self, array: FloatArray, fed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Every stage's value, each computed from other values in place of the model's."""
        return self._run(array, fed)

    def _run(self, array: FloatArray, fed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the model under hooks that keep what a stage gives, and pass on what is fed in its place."""
        found: dict[str, FloatArray] = {}

        def exchange(name: str, given: Tensor) -> Tensor:
            found[name] = given.numpy()
            return torch.from_numpy(fed[name]) if name in fed else given

        with ExitStack() as hooks:
            for name in self.names - {"pos_embed"}:
                hook = self._module(name).register_forward_hook(lambda *seen, name=name: exchange(name, seen[2]))
                hooks.callback(hook.remove)
            first = self._modules["layers.0"]
            hooks.callback(first.register_forward_pre_hook(lambda _, given: exchange("pos_embed", *given)).remove)
            with _inference(self._threads):
                self._model(torch.from_numpy(array))
        return found

    def _module(self, name: str) -> nn.Module:
        """The module that gives a stage's value."""
        owner, _, last = name.rpartition(".")
        after = f"{owner}.after_{last}"
        return self._modules.get(after) or self._modules[name]


@contextmanager
def _inference(threads: int) -> Iterator[None]:
    """PyTorch on so many threads, without gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
