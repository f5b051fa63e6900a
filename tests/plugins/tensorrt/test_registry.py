"""The plugin library in the registries of real TensorRTs, as Python's users load it; no GPU is needed.

TensorRT's Python calls few methods of plugins written in C++. The tests in C++, run here too, call the rest.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vimdeploy.libraries import library_path
from vimdeploy.ops.contract import (
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    DOMAIN,
    LOW_RANK_SCAN,
    OPERATORS,
    SELECTIVE_SCAN,
    VERSION,
)

ROOT = Path(__file__).parents[3]
FIELDS = {
    "reverse": np.array([0, 1], np.int32),
    "scale": np.array([0.5], np.float32),
    "silu": np.array([1], np.int32),
    "delta_softplus": np.array([0], np.int32),
}
IDENTITIES = {"scale": " scale 0.500000", "silu": " silu 1", "delta_softplus": " delta_softplus 0"}


@pytest.fixture(scope="module")
def plugin_library():
    """The installed library, or the one that VIMDEPLOY_TENSORRT_PLUGIN names."""
    named = os.environ.get("VIMDEPLOY_TENSORRT_PLUGIN")
    path = Path(named) if named else library_path("tensorrt")
    if path is None:
        pytest.skip("TensorRT's plugins are not in this installation: no CUDA compiler or no TensorRT headers")
    return path


@pytest.fixture(scope="module", params=["tensorrt_lean", "tensorrt_rtx"])
def trt(request):
    return pytest.importorskip(request.param)


@pytest.fixture(scope="module")
def registry(trt, plugin_library):
    registry = trt.get_plugin_registry()
    assert registry.load_library(str(plugin_library)) is not None
    return registry


@pytest.fixture(params=OPERATORS, ids=lambda op: op.name)
def operator(request):
    return request.param


@pytest.fixture
def creator(registry, operator):
    return registry.get_creator(operator.name, str(VERSION), DOMAIN)


def names_of_fields(operator):
    return [attribute.name for attribute in operator.attributes if attribute.name in FIELDS]


def collection(trt, values):
    types = {
        "i4": trt.PluginFieldType.INT32,
        "f4": trt.PluginFieldType.FLOAT32,
        "i8": trt.PluginFieldType.INT64,
    }
    return trt.PluginFieldCollection(
        [trt.PluginField(name, value, types[value.dtype.str[1:]]) for name, value in values.items()]
    )


def made(trt, creator, values):
    return creator.create_plugin("node", collection(trt, values), trt.TensorRTPhase.BUILD)


def right_fields(operator):
    return {name: FIELDS[name] for name in names_of_fields(operator)}


def test_creator_is_found_by_name_version_and_namespace(registry, creator, operator):
    assert (creator.name, creator.plugin_version, creator.plugin_namespace) == (operator.name, str(VERSION), DOMAIN)
    assert [field.name for field in creator.field_names] == names_of_fields(operator)
    assert registry.get_creator(operator.name, str(VERSION + 1), DOMAIN) is None
    assert registry.get_creator(operator.name, str(VERSION), "") is None


def test_plugin_has_all_three_capabilities(trt, creator, operator):
    plugin = made(trt, creator, right_fields(operator))
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    assert (core.plugin_name, core.plugin_version, core.plugin_namespace) == (operator.name, str(VERSION), DOMAIN)
    build = plugin.get_capability_interface(trt.PluginCapabilityType.BUILD)
    assert build.num_outputs == 1
    last = names_of_fields(operator)[-1]
    assert build.timing_cache_id.endswith(" reverse 0 1" + IDENTITIES.get(last, ""))
    assert plugin.get_capability_interface(trt.PluginCapabilityType.RUNTIME) is not None


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"reverse": None}, "field reverse is missing, wanted a list of INT32"),
        ({"reverse": np.array([0, 2], np.int32)}, "attribute reverse[1] is 2, wanted 0 or 1"),
        ({"reverse": np.array([0, 1], np.int64)}, "field reverse has PluginFieldType 10, wanted a list of INT32"),
        ({"reverse": np.array([0, 1], np.float32)}, "field reverse has PluginFieldType 1, wanted a list of INT32"),
    ],
)
def test_wrong_fields_are_refused_in_one_sentence(trt, creator, operator, wrong, sentence, capfd):
    fields = {name: value for name, value in (right_fields(operator) | wrong).items() if value is not None}
    assert made(trt, creator, fields) is None
    assert capfd.readouterr().err == f"[vimdeploy] {operator.name}: {sentence}\n"


@pytest.mark.parametrize(
    ("operator", "sentence"),
    [
        (BIDIRECTIONAL_SCAN, "field scale is missing, wanted one FLOAT32"),
        (CAUSAL_CONV1D, "field silu is missing, wanted one INT32"),
        (SELECTIVE_SCAN, "field delta_softplus is missing, wanted one INT32"),
        (LOW_RANK_SCAN, "field delta_softplus is missing, wanted one INT32"),
    ],
)
def test_an_operator_without_one_of_its_fields_is_refused(trt, registry, operator, sentence, capfd):
    creator = registry.get_creator(operator.name, str(VERSION), DOMAIN)
    assert made(trt, creator, {"reverse": FIELDS["reverse"]}) is None
    assert sentence in capfd.readouterr().err


ALONE = """
import ctypes, sys
trt = __import__(sys.argv[2]) if len(sys.argv) > 2 else None
ctypes.CDLL(sys.argv[1])
for name in sys.argv[3:]:
    creator = trt.get_plugin_registry().get_creator(name, "1", "vimdeploy")
    print(creator.name, creator.plugin_version, creator.plugin_namespace)
"""


@pytest.fixture(scope="module")
def registered_library(plugin_library):
    return plugin_library.with_name("libvimdeploy_tensorrt_registered.so")


def test_the_library_that_registers_itself_has_only_to_be_loaded(registered_library):
    """As Triton, DeepStream, trtexec --staticPlugins and polygraphy --plugins do, by ``dlopen`` and no more."""
    trt = pytest.importorskip("tensorrt_lean")
    describe = ctypes.CDLL(str(registered_library.with_name("libvimdeploy_tensorrt.so"))).VimdeployLibraryInfo
    describe.restype = ctypes.c_char_p
    headers = json.loads(describe())["tensorrt_headers"]
    if headers.split(".")[0] != trt.__version__.split(".")[0]:
        pytest.skip(f"the library is built with headers of TensorRT {headers}, here is {trt.__version__}")
    command = [sys.executable, "-c", ALONE, registered_library, "tensorrt_lean", *(op.name for op in OPERATORS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines(), done.stderr) == ([f"{op.name} {VERSION} {DOMAIN}" for op in OPERATORS], "")


def test_it_says_if_there_is_no_tensorrt(registered_library):
    done = subprocess.run([sys.executable, "-c", ALONE, registered_library], capture_output=True, text=True, check=True)
    if done.stderr:  # else the system's libraries have TensorRT
        assert done.stderr.startswith(
            "[vimdeploy] The plugins are not registered: this process has not loaded TensorRT"
        )
        assert done.stderr.count("\n") == 1


def test_what_python_cannot_call_through_the_lean_runtimes_registry():
    """Formats, types, shapes, workspace, tactics, clones, an engine's fields: all that ``make test-cpp`` tests."""
    program = Path(os.environ.get("VIMDEPLOY_TENSORRT_TESTS", ROOT / "build/plugins/tests/vimdeploy_tensorrt_tests"))
    if not program.is_file():
        pytest.skip("vimdeploy_tensorrt_tests is not built: make test-cpp builds it where TensorRT's headers are")
    libraries = Path(pytest.importorskip("tensorrt_lean_libs").__path__[0])
    runtime = next(libraries.glob("libnvinfer_lean.so*"))
    environment = os.environ | {"VIMDEPLOY_TENSORRT_RUNTIME": str(runtime)}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(f"vimdeploy_tensorrt_tests is built with headers of another major version than {runtime.name}")
    assert done.returncode == 0, done.stdout
    assert "[  PASSED  ]" in done.stdout
