"""The block in which models import what is not installed here: ``with vimdeploy.compat.mamba():``."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vimdeploy.compat.norms import layer_norm_fwd, layer_norm_fwd_before
from vimdeploy.compat.stand_ins import (
    ANSWERED,
    EXTENSIONS,
    REPLACED,
    SHADOWED,
    UNUSED,
    is_package,
    is_stand_in,
    known_as,
    stand_in,
)
from vimdeploy.errors import VimdeployWarning

_lock = threading.RLock()
_blocks = 0
_undo = ExitStack()


@contextmanager
def mamba() -> Iterator[None]:
    """Import, run and export models written for ``mamba_ssm``, VMamba and the like on this machine, unmodified.

    Within the block, imports of modules that are not installed here, or are and do not work here, give stand-ins, which
    compute by vimdeploy's operators: the compiled extensions (``selective_scan_cuda`` and its variants,
    ``causal_conv1d_cuda``) and the packages around them (``mamba_ssm``, ``selective_scan``, ``triton``, ...). What is
    installed and works is kept; an extension that works goes on computing what lies on a GPU, and ``causal_conv1d``
    alone always is the stand-in. ``torch.cuda.device`` accepts tensors on the CPU.

    After the block everything is as before. The model's modules remain imported and go on working with the stand-ins
    that they hold. Build a model, call it and export it within such a block too if it imports in its functions, if it
    calls ``torch.cuda.device`` (VMamba does), or if an extension that is installed is to answer on the CPU.

    Blocks may be nested. They are the process's: while one thread is in a block, imports of all threads are answered as
    described, and the last one to leave restores everything.

    >>> with vimdeploy.compat.mamba():
    ...     from vmamba import VSSM
    """
    global _blocks, _undo
    with _lock:
        if not _blocks:
            _undo = _entered()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _undo.close()


def _entered() -> ExitStack:
    """All that a block changes, to be undone."""
    with ExitStack() as undo:
        undo.enter_context(_hidden())
        undo.callback(_forget_stand_ins)
        undo.enter_context(_exchanged(torch.cuda, "device", _AnyDevice))
        for name, module in list(sys.modules.items()):
            _answer_anywhere(name, module, undo)
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        undo.callback(sys.meta_path.remove, finder)
        return undo.pop_all()


@contextmanager
def _hidden() -> Iterator[None]:
    """Take the modules out of ``sys.modules`` that the stand-ins are imported in place of."""
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in SHADOWED}
    for name in hidden:
        del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(hidden)


def _forget_stand_ins() -> None:
    for name, module in list(sys.modules.items()):
        if is_stand_in(name, module):
            del sys.modules[name]


@contextmanager
def _exchanged(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value of an attribute."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _AnyDevice(torch.cuda.device):
    """``torch.cuda.device`` for whatever a tensor's device is: a CPU and None change nothing."""

    def __init__(self, device: Any) -> None:
        is_cuda = isinstance(device, int) or (device is not None and torch.device(device).type == "cuda")
        super().__init__(device if is_cuda else -1)


def _answer_anywhere(name: str, module: Any, undo: ExitStack) -> None:
    """Let an installed module's functions for the GPU answer on a CPU and while a model is exported, too."""
    if is_stand_in(name, module):
        return
    for end, contents in ANSWERED.items():
        if name == end or (end.startswith(".") and name.endswith(end)):
            for key, ours in contents.items():
                if installed := getattr(module, key, None):
                    ours = _of_the_same_release(installed, ours)
                    undo.enter_context(_exchanged(module, key, _by_device(installed, ours)))


def _by_device(installed: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(installed)
    def answer(*arguments: Any, **options: Any) -> Any:
        tensor = arguments[0] if arguments else next(iter(options.values()))
        function = installed if tensor.is_cuda and not torch.onnx.is_in_onnx_export() else ours
        return function(*arguments, **options)

    return answer


def _of_the_same_release(installed: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """Ours, or for an older ``_layer_norm_fwd`` the one that gives what the older one gave."""
    if ours is layer_norm_fwd and "x1" not in inspect.signature(installed).parameters:
        return layer_norm_fwd_before
    return ours


class _Finder(MetaPathFinder):
    """Finds stand-ins, and watches over the import of modules that are installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The stand-in's or the installed module's; None for a module of no interest."""
        known = known_as(fullname)
        replaced = {end: contents for end, contents in REPLACED.items() if fullname.endswith(end)}
        if known is None and not replaced:
            return None
        if known in SHADOWED:
            return _spec(fullname)
        installed = _installed(fullname, path, target)
        if installed is None:
            return None if known is None or _is_not_for(fullname) else _spec(fullname)
        if installed.loader is not None and (replaced or known in EXTENSIONS or known in UNUSED):
            installed.loader = _Watched(installed.loader)
        return installed


def _is_not_for(name: str) -> bool:
    """Whether the one who asks must not get the stand-in: a module of an installed Triton, and PyTorch for Triton.

    PyTorch would use what it finds. So before anybody gets the stand-in, those of its modules that look for Triton as a
    whole find out that there is none; those that look for one of its modules are told so here.
    """
    top, _, below = name.partition(".")
    if top != "triton":
        return False
    if _importer().partition(".")[0] == "torch":
        return True
    if below:
        return not is_stand_in(top, sys.modules.get(top))
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("torch.utils._triton").has_triton_package()
        importlib.import_module("torch._inductor.runtime.triton_compat")
        importlib.import_module("torch._dynamo")
    return False


def _importer() -> str:
    """The name of the module whose import statement is being carried out."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, "importlib", "importlib._bootstrap"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def _installed(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """Where the module is installed, if it is; a folder that merely has its name is not it."""
    for finder in sys.meta_path:
        spec = None if isinstance(finder, _Finder) else finder.find_spec(name, path, target)
        if spec is None:
            continue
        if name == "mamba_ssm":  # there are others of this name, mamba-ssm-macos for example, with half of its modules
            folders = spec.submodule_search_locations or ()
            return spec if any((Path(folder) / "ops" / "triton").is_dir() for folder in folders) else None
        return None if spec.loader is None and "." not in name else spec
    return None


def _spec(name: str) -> ModuleSpec:
    return ModuleSpec(name, _OfStandIns(), origin="vimdeploy.compat", is_package=is_package(name))


class _OfStandIns(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return stand_in(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Watched(Loader):
    """Imports an installed module, puts the stand-in in its place if that fails, exchanges functions if it does not."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        try:
            return self._loader.create_module(spec)
        except Exception as error:
            self._error = error
            return None

    def exec_module(self, module: ModuleType) -> None:
        name, known = module.__name__, known_as(module.__name__)
        try:
            if self._error:
                raise self._error
            self._loader.exec_module(module)
        except Exception as error:
            if known not in EXTENSIONS and known not in UNUSED:
                raise
            if known in EXTENSIONS:
                warnings.warn(
                    f"{name} is installed, and cannot be imported here ({error}); vimdeploy stands in for it.",
                    VimdeployWarning,
                    stacklevel=2,
                )
            sys.modules[name] = importlib.util.module_from_spec(_spec(name))
            return
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        for end, contents in REPLACED.items():
            if name.endswith(end):
                for key, ours in contents.items():
                    if installed := getattr(module, key, None):
                        setattr(module, key, _of_the_same_release(installed, ours))
        with _lock:
            if _blocks and known in EXTENSIONS:
                _answer_anywhere(name, module, _undo)
