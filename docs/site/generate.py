"""Writes what pages of ``docs/`` repeat from the code: python docs/site/generate.py

A page holds ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; what stands between them is ``PARTS[NAME]``. A test says
when a page is old.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import griffe

from vimdeploy.cli import main
from vimdeploy.engine_file import ENTRIES, FLAVORS, HARDWARE_COMPATIBILITY, EngineInfo
from vimdeploy.model_info import BATCH, PRECISIONS, FromCheckpoint, FromSeed, ModelInfo, SizeRange, TensorSpec
from vimdeploy.models import ARCHITECTURES, VARIANTS
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.ops import contract
from vimdeploy.recipe import FITS, INTERPOLATIONS, Recipe
from vimdeploy.tasks import TASKS, task_by_name

ROOT = Path(__file__).parents[2]
ORACLE = ROOT / "tests" / "helpers" / "oracle.py"


def written(page: str) -> str:
    """A page with its parts as the code has them now."""

    def part(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        return f"{begin}\n{PARTS[name]()}\n{end}"

    return re.sub(r"(?s)(<!-- begin (\w+) -->).*?(<!-- end \2 -->)", part, page)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _flat(text: str) -> str:
    """A docstring in one line, as Markdown."""
    return " ".join(text.split()).replace("``", "`")


def _operators() -> str:
    """Each operator of the contract: what it computes, its inputs, output and attributes, and a plain loop of NumPy."""
    return "\n\n".join("\n\n".join(_operator(operator)) for operator in contract.OPERATORS)


def _operator(operator: contract.Operator) -> Iterator[str]:
    summary, _, formulas = operator.doc.partition("\n\n")
    yield f"### {operator.name}"
    yield _flat(summary)
    if formulas:
        yield f"```text\n{formulas}\n```"
    values = [("input", value) for value in operator.inputs] + [("output", operator.output)]
    tensors = ((kind, _code(v.name), _code(f"({', '.join(v.dims)})"), v.type, v.doc) for kind, v in values)
    yield _table(("", "name", "shape", "type", "is"), tensors)
    attributes = ((_code(a.name), a.type, _code(a.default or ""), a.doc) for a in operator.attributes)
    yield _table(("attribute", "type", "default", "is"), attributes)


def _sizes() -> str:
    """The legend of the contract's shapes."""
    legend = str(inspect.getdoc(contract)).partition("Dimensions:\n")[2].partition("\n\n")[0]
    return f"```text\n{inspect.cleandoc(legend)}\n```"


def _oracle() -> str:
    """The plain loops that all kernels are compared with, as the tests have them."""
    names = ("with_silu", "softplus", "causal_conv1d", "bidirectional_selective_scan", "selective_scan")
    source = ORACLE.read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    texts = (ast.get_source_segment(source, functions[name]) for name in names)
    return "```python\nimport numpy as np\n\n\n" + "\n\n\n".join(map(str, texts)) + "\n```"


def _fields(cls: type, has_defaults: bool = True) -> Callable[[], str]:
    """The fields of a dataclass as a table, in the terms of JSON, which they are stored as."""

    def table() -> str:
        documented, rows = _documented(cls), []
        for field in dataclasses.fields(cls):
            required = field.default is dataclasses.MISSING
            default = [_code("" if required else json.dumps(field.default))] if has_defaults else []
            rows.append([_code(field.name), _JSON[str(field.type)], *default, _docstring(documented[field.name])])
        return _table(["entry", "type", *(["default"] if has_defaults else []), "is"], rows)

    return table


_JSON = {
    "str": "text",
    "bool": "true or false",
    "int": "whole number",
    "int | None": "whole number or null",
    "float": "number",
    "tuple[int, int]": "list of two whole numbers",
    "tuple[int | str, ...]": "list of whole numbers and texts",
    "tuple[float, ...]": "list of numbers",
    "tuple[str, ...]": "list of texts",
    "tuple[TensorSpec, ...]": "list of objects",
    "Mapping[str, str]": "object of texts",
    "Mapping[str, Any]": "object",
    "Mapping[str, SizeRange]": "object of objects",
    "Recipe": "object",
    "Origin": "object",
}
"""Types of fields as JSON has them."""


@functools.cache
def _package() -> griffe.Object | griffe.Alias:
    return griffe.load("vimdeploy", search_paths=[str(ROOT)])


def _documented(cls: type) -> griffe.Object | griffe.Alias:
    """A class with the docstrings of its fields."""
    return _package()[f"{cls.__module__.removeprefix('vimdeploy.')}.{cls.__name__}"]


def _docstring(member: griffe.Object | griffe.Alias) -> str:
    """What a field is, with the values that constants stand for."""

    def values(name: re.Match[str]) -> str:
        return ", ".join(map(_code, CHOICES[name[1]]))

    text = _flat(member.docstring.value) if member.docstring else ""
    return re.sub(r"`(?:\w+\.)?([A-Z_]{4,})`", values, text)


CHOICES: dict[str, Iterable[str]] = {
    "TASKS": TASKS,
    "ARCHITECTURES": ARCHITECTURES,
    "PRECISIONS": PRECISIONS,
    "INTERPOLATIONS": INTERPOLATIONS,
    "FITS": FITS,
    "FLAVORS": FLAVORS,
    "HARDWARE_COMPATIBILITY": HARDWARE_COMPATIBILITY,
}
"""Constants that docstrings name."""


def _tasks() -> str:
    """What the files of each task take and give, by the example of Vim-Ti."""
    config = VARIANTS["vim_tiny_patch16_224"].config
    rows = []
    for task in map(task_by_name, TASKS):
        images = f"images ({BATCH}, {config.in_channels}, {', '.join(map(str, config.image_size))}) of float32"
        outputs = task.outputs(config, config.grid, (), task.numbers(config, {}))
        sides = (("<br>".join(_code(str(spec)) for spec in specs)) for specs in ((images, *task.more_inputs), outputs))
        rows.append((_code(task.name), *sides))
    return _table(("task", "inputs", "outputs"), rows)


def _sidecar() -> str:
    """What each entry of the file beside an engine must be."""
    known = _documented(EngineInfo)
    rows = ((_code(name), wanted, _docstring(known[name])) for name, (wanted, _) in ENTRIES.items())
    return _table(("entry", "must be", "is"), rows)


def _context() -> click.Context:
    """That of ``vimdeploy``, in lines that do not depend on the terminal."""
    return click.Context(main, info_name="vimdeploy", terminal_width=100, **main.context_settings)


def _command_table() -> str:
    """Every command in a line."""
    rows = ((f"[{name}](#vimdeploy-{name})", c.get_short_help_str(200)) for name, c in main.commands.items())
    return _table(("command", "does"), rows)


def _commands() -> str:
    """Every command with its options."""
    return "\n\n".join("\n\n".join(_command(name, command)) for name, command in main.commands.items())


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=_context())
    yield f"## vimdeploy {name}"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        verbatim = paragraph.removeprefix("\b\n")
        yield _prose(paragraph) if verbatim == paragraph else f"```text\n{verbatim}\n```"
    options = (option.get_help_record(context) for option in command.params if isinstance(option, click.Option))
    yield "\n".join(f"- {_code(declared)}: {_prose(text)}" for declared, text in filter(None, options))


def _prose(text: str) -> str:
    """A help text in one line; what Markdown would take for markup stays text."""
    return re.sub(r"([*_<>\[\]])", r"\\\1", " ".join(text.split()))


PARTS: dict[str, Callable[[], str]] = {
    "operators": _operators,
    "sizes": _sizes,
    "oracle": _oracle,
    "tasks": _tasks,
    "sidecar": _sidecar,
    "command_table": _command_table,
    "commands": _commands,
    **{cls.__name__: _fields(cls) for cls in (SizeRange, FromCheckpoint, FromSeed, Recipe, VimConfig)},
    **{cls.__name__: _fields(cls, has_defaults=False) for cls in (ModelInfo, TensorSpec)},  # all are always there
}
"""What each part of a page is."""

if __name__ == "__main__":
    for path in sorted((ROOT / "docs").rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        if (new := written(old)) != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path} is new.")
