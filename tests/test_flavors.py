import subprocess
import sys
from enum import Enum

import pytest
from helpers import stand_in_tensorrt

from vimdeploy import flavors
from vimdeploy.errors import MissingPackageError
from vimdeploy.flavors import collecting_logger, tensorrt_module, version_of
from vimdeploy.libraries import library_path

LOADED_TWICE = """
from importlib import import_module
from vimdeploy.flavors import load_plugins
trt = import_module("{module}")
for _ in range(2):
    load_plugins(trt, "1")
creator = trt.get_plugin_registry().get_creator("BidirectionalSelectiveScan", "1", "vimdeploy")
print(creator.name, creator.plugin_version)
try:
    load_plugins(trt, "2")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(("flavor", "module"), [("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx")])
def test_a_flavour_is_a_package_and_an_extra(monkeypatch, flavor, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"package {module}, .*pip install 'vimdeploy\[{flavor}\]'"):
        tensorrt_module(flavor)


@pytest.mark.parametrize(
    ("text", "version"), [("10.3.0", (10, 3, 0)), ("11.4.0.106", (11, 4, 0)), ("8.7", (8, 7)), ("10.12", (10, 12))]
)
def test_a_version(text, version):
    assert version_of(text) == version


class TestLogger:
    def test_keeps_the_errors_in_one_line_each(self, capsys):
        trt = stand_in_tensorrt.tensorrt()
        logger = collecting_logger(trt)
        for severity in trt.ILogger.Severity:
            logger.log(severity, f"{severity.name}\n  of TensorRT")
        assert logger.errors == ["INTERNAL_ERROR of TensorRT", "ERROR of TensorRT"]
        assert logger.reason() == "INTERNAL_ERROR of TensorRT"
        assert capsys.readouterr() == ("", "")

    def test_has_a_reason_where_there_is_none(self):
        assert collecting_logger(stand_in_tensorrt.tensorrt()).reason() == "it gives no reason"

    @pytest.mark.parametrize("module", ["tensorrt_lean", "tensorrt_rtx"])
    def test_is_one_for_the_real_packages(self, module):
        trt = pytest.importorskip(module)
        logger = collecting_logger(trt)
        logger.log(trt.ILogger.ERROR, "an error")
        logger.log(trt.ILogger.WARNING, "a warning")
        assert logger.errors == ["an error"]


@pytest.mark.parametrize("module", ["tensorrt_lean", "tensorrt_rtx"])
def test_plugins_are_loaded_into_real_registries_once(module, tmp_path):
    pytest.importorskip(module)
    if library_path("tensorrt") is None:
        pytest.skip("TensorRT's plugins are not in this installation: no CUDA compiler or no TensorRT headers")
    code = LOADED_TWICE.format(module=module)
    # Elsewhere than in the repository, whose vimdeploy/ has no libraries.
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    first, second = result.stdout.splitlines()
    assert first == "BidirectionalSelectiveScan 1"
    assert "does not bring version 2 of our plugins" in second


def test_a_file_that_is_no_library_is_refused_by_a_real_registry(tmp_path, monkeypatch):
    trt = pytest.importorskip("tensorrt_lean")
    (tmp_path / "text.so").write_text("no library")
    monkeypatch.setattr(flavors, "library_path", lambda runtime: tmp_path / "text.so")
    with pytest.raises(flavors.ConfigError, match=r"text\.so does not bring version 9 of our plugins"):
        flavors.load_plugins(trt, "9")


@pytest.mark.parametrize("package", ["tensorrt_rtx", "tensorrt_lean"])
def test_the_stand_in_has_no_names_of_its_own(package):
    """What it has in place of TensorRT's classes, their methods and enumerations is in the real packages too.

    The lean one has no builder.
    """
    real = pytest.importorskip(package)
    builders = {"Builder", "OnnxParser", "IPluginV3Layer", "LayerType", "NetworkDefinitionCreationFlag"}
    real_name = {
        stand_in_tensorrt.Engine: "ICudaEngine",
        stand_in_tensorrt.Context: "IExecutionContext",
        stand_in_tensorrt.Runtime: "Runtime",
        stand_in_tensorrt.Registry: "IPluginRegistry",
    }
    if package == "tensorrt_rtx":
        real_name |= {
            stand_in_tensorrt.RuntimeConfig: "IRuntimeConfig",
            stand_in_tensorrt.Network: "INetworkDefinition",
            stand_in_tensorrt.Parser: "OnnxParser",
        }
    known = vars(stand_in_tensorrt.tensorrt(cuda=stand_in_tensorrt.Cuda()))
    own = {name for name in known if name[0].isupper()} - (builders if package == "tensorrt_lean" else set())
    assert own <= set(dir(real))
    for name in own:
        if isinstance(known[name], type) and issubclass(known[name], Enum):
            missing = {member for member in known[name].__members__ if not hasattr(getattr(real, name), member)}
            assert missing <= {"EXPLICIT_BATCH"}, name
    for stand_in, name in real_name.items():
        members = {member for member in vars(stand_in) if not member.startswith("_")}
        assert members, name
        assert members <= set(dir(getattr(real, name))), name
