"""Which module an import gives within a block: the installed one, if it works, or the one that stands in for it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from vimdeploy.compat.installed import answers, has_answers
from vimdeploy.compat.stand_ins import EXTENSIONS, SHADOWED, UNUSED, is_package, is_stand_in, known_as, stand_in
from vimdeploy.errors import VimdeployWarning


class Finder(MetaPathFinder):
    """Finds stand-ins, and watches over the import of modules that are installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The stand-in's or the installed module's; None for a module of no interest."""
        known = known_as(fullname)
        if known is None and not has_answers(fullname):
            return None
        if known in SHADOWED:
            return _spec(fullname)
        installed = _installed(fullname, path, target)
        if installed is None:
            return None if known is None or _is_not_for(fullname) else _spec(fullname)
        if installed.loader is not None and (has_answers(fullname) or known in UNUSED):
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
        spec = None if isinstance(finder, Finder) else finder.find_spec(name, path, target)
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
    """Imports an installed module, and puts the stand-in in its place if that fails, else wraps its functions."""

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
        for key, ours in list(answers(name, module)):
            setattr(module, key, ours)
