"""``import vimdeploy`` and ``--help`` load nothing heavy, and torch is needed by torch's own modules alone."""

import json
import pkgutil
import subprocess
import sys

import pytest

import vimdeploy

HEAVY = {"torch", "onnxruntime", "onnx", "onnxscript", "onnx_ir", "numpy", "PIL", "safetensors", "huggingface_hub"}
HEAVY |= {"tensorrt", "tensorrt_rtx", "polygraphy", "pycuda", "matplotlib", "jinja2", "pyarrow"}
TORCH_MODULES = {
    f"vimdeploy.{name}"
    for name in (
        "exporters.onnx_graph",
        "models.backbone",
        "models.deit.network",
        "models.vim.layers",
        "models.vim.network",
        "ops.detection_ops",
        "ops.native",
        "ops.torch_ops",
        "exporters.tracing",
        "parity.steps",
        "runtimes.eager",
        "torch_module",
    )
}
COMMANDS = (
    "export",
    "convert",
    "quantize",
    "build",
    "run",
    "extract",
    "verify",
    "bench",
    "package",
    "models",
    "inspect",
    "doctor",
)


def loaded_by(code):
    """The top-level packages that a fresh Python has loaded after ``code``."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(result.stderr.split())


def test_import_loads_nothing_heavy():
    assert not loaded_by("import vimdeploy") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["models"]])
def test_help_loads_nothing_heavy(arguments):
    loaded = loaded_by(f"from vimdeploy.cli import main; main({arguments}, standalone_mode=False)")
    assert not loaded & (HEAVY | {"rich"})


def test_every_module_but_torchs_own_imports_without_torch():
    names = {info.name for info in pkgutil.walk_packages(vimdeploy.__path__, "vimdeploy.")} - TORCH_MODULES
    names = {name for name in names if not name.startswith(("vimdeploy.models.heads.", "vimdeploy.compat"))}
    code = f"""
import importlib, json, sys
sys.modules["torch"] = None  # every import of torch fails
failed = {{}}
for name in {sorted(names)}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {}
