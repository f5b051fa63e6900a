"""PyTorch as a runtime: the reference that artifacts are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import ModelInfo
from vimdeploy.models.backbone import StoringModule
from vimdeploy.models.stages import GROUP_AXES, CallPart
from vimdeploy.networks import Network, stages_of
from vimdeploy.ops import torch_ops
from vimdeploy.preprocess import FloatArray
from vimdeploy.runtimes.base import Array, Arrays, Session, Stages, check_threads

_OTHER_CALLS = "The model does not call the operators that the file says, so it is not the one that was exported."


class EagerSession(Session):
    """A network in PyTorch on the CPU, its scan a plain loop over the tokens unless compiled kernels are asked for.

    It runs on one thread unless another number is asked for: the loop's operations are so small that threads only wait
    for each other. Vim-Ti at 224 took 270 ms on one and 307 ms on two idle cores, which are torch's own choice; on a
    busy machine the wait is a hundred times as long as the work.
    """

    runtime = "PyTorch"

    def __init__(
        self, network: Network, threads: int | None = None, kernels: bool = False, kept: ExitStack | None = None
    ) -> None:
        """Make a network ready to run.

        Args:
            network: the network.
            threads: of PyTorch; None: one, or torch's own choice with the kernels.
            kernels: whether a module that somebody brings may take the compiled kernels, as it does otherwise; a
                reference takes none, or they would be compared with themselves.
            kept: what is to be left when the session is closed.
        """
        check_threads(threads)
        self._kernels, self._kept = kernels, kept or ExitStack()
        self._threads = threads or (torch.get_num_threads() if kernels else 1)
        self.module, self.info = network.module.eval(), network.info
        self.device = "cpu"
        self.operators = "eager"

    def _run(self, inputs: Arrays) -> Arrays:
        with _inference(self._threads), nullcontext() if self._kernels else torch_ops.plain_loops():
            found = self.module(*_tensors(inputs, self.info))
        several = found if isinstance(found, tuple) else (found,)
        return {spec.name: tensor.detach().numpy() for spec, tensor in zip(self.info.outputs, several, strict=True)}

    def close(self) -> None:
        """Leave what the network needs around it."""
        self._kept.close()

    def open_stages(self) -> Stages:
        """Found by hooks on the modules, or as what the calls of our operators give."""
        return EagerStages(self.module, self.info, self._threads)

    def stored_tensors(self) -> Arrays:
        """What an exported file stores, by the names that ``StoredWeight.source`` uses."""
        stored = dict(self.module.state_dict())
        for place, module in self.module.named_modules():
            if isinstance(module, StoringModule):
                stored |= {f"{place}.{name}": tensor for name, tensor in module.stored_tensors().items()}
        return {name: tensor.detach().numpy() for name, tensor in stored.items()}


class EagerStages(Stages):
    """What the modules of a network give."""

    def __init__(self, module: nn.Module, info: ModelInfo, threads: int) -> None:
        self._module, self._info, self._threads = module, info, threads
        self._stages = stages_of(info)
        self._parts: dict[int, list[tuple[str, int, int, CallPart]]] = {}
        for stage in self._stages:
            for group, part in enumerate(() if stage.call is None else stage.call.parts):
                place = (stage.name, GROUP_AXES[stage.kind], group, part)
                self._parts.setdefault(part.number, []).append(place)
        self.names = frozenset(stage.name for stage in self._stages)

    def values(
        self, inputs: Mapping[str, Array], chosen: Mapping[str, FloatArray] | None = None
    ) -> dict[str, FloatArray]:
        """The value of every stage."""
        return self._run(inputs, chosen or {})

    def values_apart(self, inputs: Mapping[str, Array], fed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The value of every stage, each computed from other values than the model's."""
        return self._run(inputs, fed)

    def _run(self, inputs: Mapping[str, Array], fed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the model under hooks that keep what a stage gives, and pass on what is fed in its place."""
        found: dict[str, FloatArray] = {}

        def exchange(name: str, given: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
            first, *others = given if isinstance(given, tuple) else (given,)
            found[name] = first.numpy()
            passed = torch.from_numpy(fed[name]) if name in fed else first
            return (passed, *others) if isinstance(given, tuple) else passed

        pieces: dict[str, dict[int, Tensor]] = {name: {} for name in self.names}

        def observe(number: int, given: Tensor) -> Tensor:
            """Keep the groups that nodes of the file give, and pass on what is fed in their place."""
            passed = given
            for name, axis, group, part in self._parts.get(number, ()):
                if part.group >= given.shape[axis]:
                    raise ConfigError(_OTHER_CALLS)
                pieces[name][group] = _turned(given.select(axis, part.group), part)
                if name in fed:
                    passed = passed.clone() if passed is given else passed
                    piece = torch.from_numpy(fed[name]).select(axis, group)
                    passed.select(axis, part.group).copy_(_turned(piece, part))
            return passed

        with ExitStack() as hooks:
            for stage in self._stages:
                if stage.call is not None:
                    continue
                module = self._module.get_submodule(stage.module)
                hook = module.register_forward_hook(lambda *seen, name=stage.name: exchange(name, seen[2]))
                hooks.callback(hook.remove)
            hooks.enter_context(torch_ops.observed(observe))
            hooks.enter_context(torch_ops.plain_loops())
            with _inference(self._threads):
                self._module(*_tensors(inputs, self._info))
        for stage in self._stages:
            if stage.call is not None:
                if len(pieces[stage.name]) < len(stage.call.parts):
                    raise ConfigError(_OTHER_CALLS)
                groups = [pieces[stage.name][group] for group in range(len(stage.call.parts))]
                found[stage.name] = torch.stack(groups, stage.call.group_axis).float().numpy()
        return found


def _turned(piece: Tensor, part: CallPart) -> Tensor:
    """One group (B, L, E) of a call in the order of the node's tokens, or the other way round."""
    return piece.flip(1) if part.is_flipped else piece


def _tensors(inputs: Mapping[str, Array], info: ModelInfo) -> list[Tensor]:
    """Copies: a forward may write into what it is given."""
    return [torch.tensor(inputs[spec.name]) for spec in info.inputs]


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
