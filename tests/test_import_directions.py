"""Data flows one way: a stage of the package imports earlier stages and itself, never a later one."""

import ast
import graphlib
from pathlib import Path

import pytest

import vimdeploy

STAGES = (
    ("installation",),
    ("errors", "text"),
    ("bilinear", "coco", "files", "imagenet", "onnx_file", "progress", "reading", "recipe", "user_code"),
    ("row_file",),
    ("ops.contract",),
    ("model_info",),
    ("array_file",),
    ("engine_file", "gpu", "libraries"),
    ("flavors", "machine"),
    ("torch_file", "preprocess"),
    ("checkpoint",),
    ("ops",),
    ("compat",),
    ("models",),
    ("tasks",),
    ("networks", "artifact"),
    ("torch_module", "model_file", "scan_times"),
    ("picture_files",),
    ("inputs",),
    ("graphs",),
    ("exporters",),
    ("runtimes",),
    ("bulk",),
    ("converters",),
    ("tolerance", "parity", "doctor"),
    ("benchmark", "report"),
    ("serving",),
    ("api",),
    ("",),  # vimdeploy itself, which hands on what api and runtimes offer
    ("cli",),
    ("__main__",),
)
"""First to last. A name stands for a module or for all of a folder but what another stage names."""

ROOT = Path(vimdeploy.__file__).parent


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imports(name):
    """The modules of the package that one of them imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import in line {node.lineno}"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {own for own in (module.removeprefix("vimdeploy.") for module in found) if own and own in MODULES}


def stage(name):
    prefixes = {prefix: number for number, names in enumerate(STAGES) for prefix in names}
    fitting = [prefix for prefix in prefixes if name == prefix or name.startswith(f"{prefix}.")]
    assert fitting, f"{name} has no place in STAGES"
    return prefixes[max(fitting, key=len)]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_no_later_stage(name):
    later = {other for other in imports(name) if stage(other) > stage(name)}
    assert not later


def test_imports_have_no_cycle():
    graphlib.TopologicalSorter({name: imports(name) for name in MODULES}).prepare()


def test_only_the_command_line_imports_itself():
    importing = {name for name in MODULES if any(other.startswith("cli") for other in imports(name))}
    assert {name.partition(".")[0] for name in importing} <= {"cli", "__main__"}


def test_only_the_command_line_prints_or_ends_the_process():
    calls = {"print", "exit", "echo"}
    for name, path in MODULES.items():
        used = {
            getattr(node.func, "id", getattr(node.func, "attr", ""))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert name.startswith("cli") or not used & calls, f"{name}: {used & calls}"
