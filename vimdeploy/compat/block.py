"""The block in which models import what is not installed here: ``with vimdeploy.compat.mamba():``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from vimdeploy.compat.finder import Finder
from vimdeploy.compat.installed import answers
from vimdeploy.compat.stand_ins import SHADOWED, is_stand_in

_lock = threading.RLock()
_blocks = 0
_undo = ExitStack()


@contextmanager
def mamba() -> Iterator[None]:
    """Import, run and export models written for ``mamba_ssm``, VMamba and the like on this machine, unmodified.

    Within the block, imports of modules that are not installed here, or are and do not work here, give stand-ins, which
    compute by vimdeploy's operators: the compiled extensions (``selective_scan_cuda`` and its variants,
    ``causal_conv1d_cuda``) and the packages around them (``mamba_ssm``, ``selective_scan``, ``triton``, ...). What is
    installed and works is kept, and goes on computing what lies on a GPU; only ``causal_conv1d`` is always shadowed.
    ``torch.cuda.device`` accepts the device of a tensor on the CPU.

    After the block everything is as before. The model's modules remain imported and go on working with the stand-ins
    that they hold. Build, call and export a model within such a block too if it imports in its functions, if it calls
    ``torch.cuda.device`` (VMamba does), or if it was imported before.

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
            for key, ours in answers(name, module):
                undo.enter_context(_exchanged(module, key, ours))
        finder = Finder()
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
