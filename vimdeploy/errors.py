"""Every exception that vimdeploy raises on purpose.

    VimdeployError
    ├── InputError             what was given is not what was wanted: the command line answers with exit code 2
    │   ├── CheckpointError    a checkpoint file: unreadable, unsafe, of another variant
    │   ├── ConfigError        a model description that cannot be built: unknown variant, size, precision
    │   ├── ModelFileError     an .onnx or .engine file: not ours, damaged, of another version
    │   ├── ImageError         a picture or a folder of pictures
    │   └── OutputError        a place that cannot be written to
    ├── MissingPackageError    an optional package; names the extra that brings it (exit code 2 as well)
    ├── ParityError            an artifact that does not answer as its source does (exit code 1)
    └── ExecutionError         a runtime that gave up at work, because memory ran out for example (exit code 1)

Warnings are ``VimdeployWarning``s; one of them, ``SlowOperatorsWarning``, says that a session will be several times
slower than it could be.

A message is one sentence or two: what was wanted, what was found, what to do. Foreign exceptions are translated where
the foreign library is called, with the original as ``__cause__``.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from vimdeploy.installation import install_command


class VimdeployError(Exception):
    """Base of all errors of vimdeploy."""


class InputError(VimdeployError):
    """What was given is not what was wanted."""


class CheckpointError(InputError):
    """A checkpoint that cannot be read, must not be read, or belongs to another model."""


class ConfigError(InputError):
    """A model description that cannot be built."""


class ModelFileError(InputError):
    """An artifact that is damaged, foreign, or of a version this vimdeploy does not know."""


class ImageError(InputError):
    """A picture that cannot be read, or a folder without pictures."""


class OutputError(InputError):
    """A file that cannot be written."""


class MissingPackageError(VimdeployError):
    """An optional package that is not installed."""


class ParityError(VimdeployError):
    """An artifact whose answers are not those of its source."""


class ExecutionError(VimdeployError):
    """A runtime that gave up while it ran a model."""


class VimdeployWarning(UserWarning):
    """Something that does not stop the work, and that the one who asked for it should know."""


class SlowOperatorsWarning(VimdeployWarning):
    """Operators are computed by the function bodies in the file, because the compiled library cannot be used."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package at the moment it is needed.

    Args:
        module: what to import, for example ``"torch"``.
        extra: the extra of vimdeploy that installs it, for example ``"export"``.

    Raises:
        MissingPackageError: names the command that brings the package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"This needs the package {module}, which cannot be imported here ({error}); "
            f"install it with: {install_command(extra)}"
        ) from error
