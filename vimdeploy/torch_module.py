"""Any PyTorch module with example inputs -> a network whose file can be written: it takes and gives tensors in a row.

Nothing of the module is changed for good: it is put into eval mode as long as it is worked with.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vimdeploy.compat import mamba
from vimdeploy.errors import ConfigError
from vimdeploy.model_info import BATCH, ModelInfo, SizeRange, TensorSpec
from vimdeploy.networks import Network
from vimdeploy.user_code import told

Dynamic = Mapping[str, Mapping[int, str]]
"""The words of free axes, by input and number of the axis."""

_HALF = (torch.float16, torch.bfloat16)
_ROW_ERROR, _ROUNDING = 1e-3, 1e-5
"""How far the answer to a row may move when another row comes along, relative to the answers' standard deviation, and
to the largest of them: answers that are nearly equal have no more digits."""


class FlatModule(nn.Module):
    """A module that takes and gives nothing but tensors, in a row."""

    def __init__(self, model: nn.Module, arguments: Arguments | None = None) -> None:
        """Wrap a module.

        Args:
            model: the module.
            arguments: what it is called with; None for tensors alone, one after the other.
        """
        super().__init__()
        self.model = model
        self._arguments = arguments
        self.examples = () if arguments is None else tuple(tensor.detach().cpu() for tensor in arguments.tensors)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors in what the module gives."""
        return tuple(tensor for _, tensor in _leaves(self.given(tensors)) if isinstance(tensor, Tensor))

    def given(self, tensors: Sequence[Tensor]) -> Any:
        """What the module gives, as it gives it."""
        args, kwargs = (tensors, {}) if self._arguments is None else self._arguments.filled(tensors)
        return self.model(*args, **kwargs)


class Arguments:
    """What a module is called with: tensors, and constants between them."""

    def __init__(self, examples: Any) -> None:
        """Take example inputs apart: a tensor, a sequence of arguments, or a mapping of keyword arguments."""
        if isinstance(examples, Tensor):
            examples = (examples,)
        self.args, self.kwargs = ((), dict(examples)) if isinstance(examples, Mapping) else (tuple(examples), {})
        self._leaves, self._structure = pytree.tree_flatten((self.args, self.kwargs))
        self.tensors = [leaf for leaf in self._leaves if isinstance(leaf, Tensor)]

    def filled(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments with other tensors."""
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        return args, kwargs

    def names(self, model: nn.Module) -> list[str]:
        """A name for each tensor: of the parameter of ``forward``, or of the key in what the parameter takes."""
        names = []
        for name, value in _bound(model, self.args, self.kwargs):
            for path, leaf in _leaves(value):
                keys = [str(key) for key in path]
                first = [] if path and isinstance(path[0], str) else [name]
                if isinstance(leaf, Tensor):
                    names.append("_".join([*first, *keys]))
        return names


def _bound(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parameter of ``forward`` that each argument is for, and the argument."""
    try:
        positional = [
            parameter
            for parameter in inspect.signature(model.forward).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
        ]
    except (TypeError, ValueError):  # of a forward that is no Python function
        positional = []
    for number, value in enumerate(args):
        named = number < len(positional) and positional[number].kind != inspect.Parameter.VAR_POSITIONAL
        several = f"{positional[-1].name if positional else 'input'}_{number - max(len(positional) - 1, 0)}"
        yield (positional[number].name if named else several), value
    yield from kwargs.items()


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """What is in nested tuples, lists, mappings and dataclasses, with its place."""
    if isinstance(value, Mapping):
        items: Iterator[tuple[str | int, Any]] = ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = zip(value._fields, value, strict=True)
    elif isinstance(value, (tuple, list)):
        items = iter(enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        yield path, value
        return
    for key, inner in items:
        yield from _leaves(inner, (*path, key))


class Seen(NamedTuple):
    """A module that was looked at."""

    module: FlatModule
    info: ModelInfo
    notes: tuple[str, ...] = ()
    """What its user should know, a sentence each."""


def looked_at(
    model: nn.Module,
    examples: Any,
    *,
    name: str = "",
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic: Dynamic | None = None,
) -> Seen:
    """Run a module on example inputs, and find out what its file is to say of itself.

    Axis 0 of the inputs becomes the batch if it has one size in all of them, and the module answers for each row as if
    it were alone.

    Args:
        model: any module; its weights are float32, on any device but meta.
        examples: a tensor, a sequence of arguments, or a mapping of keyword arguments; tensors may be nested in them,
            all else becomes a constant of the file.
        name: of the model; empty: of its class.
        input_names: of the tensors in the inputs; None: as ``forward`` calls them.
        output_names: of the tensors in the outputs; None: their keys, or ``output``.
        dynamic: words of further axes that stay free, by input and number of the axis.

    Raises:
        ConfigError: for a module that cannot run on the examples or draws random numbers, and names that do not fit.
    """
    arguments, notes = _arguments(examples), []
    model, moved = _on_cpu(model)
    if moved:
        notes.append(f"The weights are copied from {moved} to the CPU.")
    _check_types(model)
    flat = FlatModule(model, arguments)
    tensors = flat.examples
    inputs = _named("input", input_names, arguments.names(model), len(tensors), ())
    with ready(model), torch.no_grad():
        names, outputs = _run_named(flat, tensors)
        _check_not_random(flat, tensors, outputs, names)
        rows = _rows(flat, tensors, outputs)
    notes += [rows.note] if rows.note else []
    given = _named("output", output_names, names, len(outputs), inputs)
    words, sizes = _words(dynamic or {}, inputs, tensors)
    if rows.is_free:
        for axes in words:
            axes.setdefault(0, BATCH)
    if rows.fixed is not None:
        sizes[BATCH] = SizeRange(rows.fixed, rows.fixed)
    free = [{0: BATCH} if has else {} for has in rows.with_batch or [False] * len(outputs)]
    info = ModelInfo(
        name or type(model).__name__,
        tuple(_spec(*each) for each in zip(inputs, tensors, words, strict=True)),
        tuple(_spec(*each) for each in zip(given, outputs, free, strict=True)),
        sizes=sizes,
    )
    return Seen(flat, info, tuple(notes))


def network_of_module(model: nn.Module, examples: Any, info: ModelInfo) -> Network:
    """A module as the reference of a file that was exported from it.

    Args:
        model: the module, in eval mode.
        examples: what it is called with, as for ``looked_at``; None for tensors one after the other.
        info: of the file.

    Raises:
        ConfigError: if the file is of another module.
    """
    model, _ = _on_cpu(model)
    _check_types(model)
    flat = FlatModule(model, None if examples is None else _arguments(examples))
    if examples is not None:
        _check_fits("inputs", info.inputs, flat.examples)
        with torch.no_grad():
            _check_fits("outputs", info.outputs, _run_named(flat, flat.examples)[1])
    return Network(flat, dataclasses.replace(info, precision="fp32"))


def _check_fits(what: str, specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> None:
    fits = len(specs) == len(tensors) and all(
        spec.type == _type_name(tensor)
        and len(spec.dims) == tensor.ndim
        and all(isinstance(dim, str) or dim == size for dim, size in zip(spec.dims, tensor.shape, strict=True))
        for spec, tensor in zip(specs, tensors, strict=True)
    )
    if not fits:
        found = ", ".join(f"{tuple(tensor.shape)} of {_type_name(tensor)}" for tensor in tensors)
        raise ConfigError(
            f"The model is not the one of the file: wanted the {what} {', '.join(map(str, specs))}; found {found}."
        )


def example_arrays(network: Network) -> dict[str, npt.NDArray[Any]]:
    """The example inputs of a module that somebody brings, by name; none of our own models."""
    if not isinstance(network.module, FlatModule) or not network.module.examples:
        return {}
    names = [spec.name for spec in network.info.inputs]
    return {name: tensor.numpy() for name, tensor in zip(names, network.module.examples, strict=True)}


@contextmanager
def ready(model: nn.Module) -> Iterator[None]:
    """A module in eval mode, within ``vimdeploy.compat.mamba()``, for its forward may import and ask for CUDA devices.

    At the end it is as it was: what its forward assigns to itself is gone too.
    """
    modules = list(model.modules())
    scripted = next((part for part in modules if isinstance(part, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise ConfigError("Wanted a module of Python code, found TorchScript; give the module that it was made from.")
    before = [(dict(vars(module)), dict(module._buffers)) for module in modules]
    model.eval()
    try:
        with mamba():
            yield
    finally:
        for module, (attributes, buffers) in zip(modules, before, strict=True):
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)


def _arguments(examples: Any) -> Arguments:
    if not isinstance(examples, (Tensor, Mapping, tuple, list)):
        raise ConfigError(
            "Wanted example inputs: a tensor, a tuple of arguments, or a dict of keyword arguments; found "
            f"{type(examples).__name__}."
        )
    arguments = Arguments(examples)
    if not arguments.tensors:
        raise ConfigError("Wanted example inputs with at least one tensor in them, found none.")
    empty = next((tensor for tensor in arguments.tensors if not tensor.numel()), None)
    if empty is not None:
        raise ConfigError(f"Wanted example inputs whose sizes are at least 1, found {tuple(empty.shape)}.")
    return arguments


def _on_cpu(model: nn.Module) -> tuple[nn.Module, str]:
    """The module with its weights on the CPU, a copy if they are elsewhere, and where they are."""
    devices = {str(tensor.device) for tensor in (*model.parameters(), *model.buffers())} - {"cpu"}
    if "meta" in devices:
        raise ConfigError("The model's weights are on the device meta, which has no values; load them first.")
    if not devices:
        return model, ""
    try:
        return copy.deepcopy(model).cpu(), " and ".join(sorted(devices))
    except Exception as error:  # whatever a model that cannot be copied raises
        cure = "move it with model.cpu()"
        raise ConfigError(f"The model cannot be copied to the CPU ({told(error)}); {cure}.") from error


def _check_types(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_complex():
            raise ConfigError(
                f"Wanted real weights, {name} is {_type_name(tensor)}: no runtime has operators for complex numbers."
            )
        if tensor.dtype in _HALF:
            raise ConfigError(
                f"Wanted weights in float32, {name} is {_type_name(tensor)}; make them so with model.float(). "
                "precision chooses what the file is in."
            )


def _run_named(flat: FlatModule, tensors: Sequence[Tensor]) -> tuple[list[str], list[Tensor]]:
    """The names and the tensors of what a module gives."""
    try:
        found = flat.given([tensor.clone() for tensor in tensors])  # a forward may write into what it is given
    except Exception as error:  # whatever somebody's forward raises
        raise ConfigError(f"The model cannot run on the example inputs: {told(error)}.") from error
    names, outputs = [], []
    for path, leaf in _leaves(found):
        if isinstance(leaf, Tensor):
            keys = [str(key) for key in path]
            names.append("_".join(keys if path and isinstance(path[0], str) else ["output", *keys]))
            outputs.append(leaf.detach().clone())
    if not outputs:
        raise ConfigError(f"Wanted a model that gives tensors, found {type(found).__name__}.")
    for name, tensor in zip(names, outputs, strict=True):
        if tensor.dtype == torch.bfloat16 or tensor.is_complex():
            raise ConfigError(f"The output {name} is {_type_name(tensor)}; convert it within the model, to float32.")
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"The output {name} of the example inputs is NaN or infinite; give other inputs.")
    return names, outputs


def _check_not_random(
    flat: FlatModule, tensors: Sequence[Tensor], first: Sequence[Tensor], names: Sequence[str]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1 + torch.initial_seed() % 2**32)
        second = flat(*(tensor.clone() for tensor in tensors))
    random = [name for name, one, other in zip(names, first, second, strict=False) if not torch.equal(one, other)]
    if random or len(first) != len(second):
        raise ConfigError(
            f"The model draws random numbers, in eval mode too: {' and '.join(random) or 'its outputs'} of the same "
            "inputs changed from one call to the next, so no file can answer as it does."
        )


class _Rows(NamedTuple):
    """What axis 0 of the inputs is, if it has one size in all of them."""

    is_free: bool = False
    """Whether the module takes other sizes, and answers for each row as if it were alone."""
    with_batch: tuple[bool, ...] = ()
    """For each output, whether it has a row for each of the inputs'; if none has, it does not depend on the batch."""
    fixed: int | None = None
    """The only batch that the module takes."""
    note: str = ""


def _rows(flat: FlatModule, tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> _Rows:
    sizes = {len(tensor) for tensor in tensors if tensor.ndim}
    if len(sizes) != 1:
        return _Rows()
    (size,) = sizes
    try:
        with_batch = _answered_alone(flat, tensors, outputs, [*range(size), 0])
    except Exception as error:  # whatever somebody's forward raises
        note = f"The batch is fixed at {size}, because the model cannot run with {size + 1}: {told(error)}."
        turned = _answered_alone(flat, tensors, outputs, [*range(size)][::-1])
        return _Rows(fixed=size if turned is not None and all(turned) else None, note=note)
    if with_batch is None:
        note = "Axis 0 is no batch, because the answer to a row depends on the others; it stays fixed."
        return _Rows(note=note)
    return _Rows(is_free=True, with_batch=with_batch)


def _answered_alone(
    flat: FlatModule, tensors: Sequence[Tensor], outputs: Sequence[Tensor], rows: list[int]
) -> tuple[bool, ...] | None:
    """Which outputs have rows, if a module answers for rows of its inputs as it did for all; None if it does not."""
    size = next(len(tensor) for tensor in tensors if tensor.ndim)
    found = flat(*(tensor[rows] if tensor.ndim else tensor.clone() for tensor in tensors))
    with_batch = []
    for one, other in zip(outputs, found, strict=True):
        with_batch.append(one.shape[:1] == (size,) and other.shape == (len(rows), *one.shape[1:]))
        if not with_batch[-1]:
            if one.shape != other.shape:
                return None
            continue
        if not one.numel():
            continue
        wanted = one[rows].double()
        allowed = _ROW_ERROR * one.double().std(correction=0) + _ROUNDING * one.double().abs().amax()
        if not (other.double() - wanted).abs().amax() <= allowed:
            return None
    return tuple(with_batch)


def with_fixed_batch(info: ModelInfo, examples: Sequence[Tensor]) -> ModelInfo:
    """What a file says of itself if its batch is that of the examples, in place of a free one."""
    size = next(len(tensor) for tensor in examples if tensor.ndim)

    def fixed(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(
            dataclasses.replace(spec, dims=tuple(size if dim == BATCH else dim for dim in spec.dims)) for spec in specs
        )

    sizes = {**info.sizes, BATCH: SizeRange(size, size)} if info.has_batch else info.sizes
    return dataclasses.replace(info, inputs=fixed(info.inputs), outputs=fixed(info.outputs), sizes=sizes)


def with_sizes(info: ModelInfo, sizes: Mapping[str, SizeRange]) -> ModelInfo:
    """What a file says of itself if free dimensions other than the batch take these sizes alone."""
    narrower = {
        word: dataclasses.replace(sizes[word], typical=size.typical) if word in sizes else size
        for word, size in info.sizes.items()
    }
    return dataclasses.replace(info, sizes=narrower)


def _words(
    dynamic: Dynamic, names: Sequence[str], tensors: Sequence[Tensor]
) -> tuple[list[dict[int, str]], dict[str, SizeRange]]:
    """The words of the axes of each input that are to stay free, and what sizes they may have."""
    by_name = dict(zip(names, tensors, strict=True))
    sizes: dict[str, int] = {}
    for name, axes in dynamic.items():
        if name not in by_name:
            raise ConfigError(f"dynamic speaks of an input {name!r}; the inputs are {', '.join(names)}.")
        shape = by_name[name].shape
        for axis, word in axes.items():
            if not 0 <= axis < len(shape) or not re.fullmatch(r"[A-Za-z_]\w*", word):
                raise ConfigError(
                    f"Wanted a free axis from 0 to {len(shape) - 1} of {name}, and a word for it such as height; "
                    f"found {axis} and {word!r}."
                )
            if shape[axis] < 2 or sizes.setdefault(word, shape[axis]) != shape[axis]:
                raise ConfigError(
                    f"The free axis {word} wants one size of at least 2 in the example inputs, found {shape[axis]} in "
                    f"axis {axis} of {name}."
                )
    ranges = {word: SizeRange(typical=size) for word, size in sizes.items() if word != BATCH}
    return [dict(dynamic.get(name, {})) for name in names], ranges


def _named(
    what: str, given: Sequence[str] | None, found: Sequence[str], count: int, taken: Sequence[str]
) -> tuple[str, ...]:
    """The names of inputs or outputs: those that are given, or else those found, none twice."""
    if given is not None:
        if len(given) != count or len({*given, *taken}) != count + len(taken) or not all(given):
            raise ConfigError(
                f"Wanted {count} different {what} names that nothing else has, found {', '.join(given) or 'none'}; the "
                f"model has {', '.join(found)}."
            )
        return tuple(given)
    counts, names = Counter(taken), []
    for name in found:
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return tuple(names)


def _spec(name: str, tensor: Tensor, words: Mapping[int, str]) -> TensorSpec:
    return TensorSpec(name, tuple(words.get(axis, size) for axis, size in enumerate(tensor.shape)), _type_name(tensor))


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
