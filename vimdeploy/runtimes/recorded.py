"""What another program has answered, in the place of a session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vimdeploy.array_file import read_arrays
from vimdeploy.errors import InputError
from vimdeploy.model_info import ModelInfo
from vimdeploy.runtimes.base import Arrays, Session


class RecordedSession(Session):
    """Outputs in a file: each run takes the rows that come next, so the inputs must be those that they belong to."""

    device = operators = ""

    def __init__(self, path: str | Path, info: ModelInfo, count: int) -> None:
        """Read them.

        Args:
            path: a file of ``numpy.savez``: an array for each output, by name, a row for each input.
            info: of the model.
            count: how many inputs there are.

        Raises:
            InputError: if the file cannot be read, or holds other arrays.
        """
        self.info, self._path, self._next = info, path, 0
        self._outputs = read_arrays(path, info.outputs, info.has_batch)
        rows = len(next(iter(self._outputs.values())))
        if rows != count:
            raise InputError(
                f"{path} has the outputs of {rows} inputs, compared are {count}; give the file of --save-inputs with "
                "--inputs, or the --count and --seed that it was made with."
            )

    @property
    def description(self) -> str:
        """The file."""
        return str(self._path)

    def run(self, inputs: Any, **_: Any) -> Arrays:
        """The outputs of as many inputs as are given, which come after those of the last run."""
        first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
        start = self._next
        self._next += len(first) if self.info.has_batch else 1
        if not self.info.has_batch:
            return {name: array[start] for name, array in self._outputs.items()}
        return {name: array[start : self._next] for name, array in self._outputs.items()}

    def _run(self, inputs: Arrays) -> Arrays:
        return self.run(inputs)
