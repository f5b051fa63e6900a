import subprocess
import sys
from enum import Enum

import pytest
from helpers import stand_in_tensorrt
from helpers.tensorrt_bindings import BINDINGS

from vimdeploy.errors import ConfigError, MissingPackageError
from vimdeploy.flavors import LOG, collecting_logger, load_plugins, tensorrt_module, version_of
from vimdeploy.libraries import library_path

LOADED_TWICE = """
from importlib import import_module
from vimdeploy.flavors import load_plugins
trt = import_module("{module}")
for _ in range(2):
    load_plugins(trt, trt.get_plugin_registry(), "1", "9.0")
creator = trt.get_plugin_registry().get_creator("BidirectionalSelectiveScan", "1", "vimdeploy")
print(creator.name, creator.plugin_version)
try:
    load_plugins(trt, trt.get_plugin_registry(), "2", "9.0")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(("flavor", "module"), [("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx")])
def test_a_flavour_is_a_package_and_an_extra(monkeypatch, flavor, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"package {module}, .*pip install '.*\[{flavor}\]'"):
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
        assert logger.reason() == "INTERNAL_ERROR of TensorRT; ERROR of TensorRT"
        assert capsys.readouterr() == ("", "")

    def test_passes_all_on_to_whoever_listens(self, caplog, capsys):
        trt = stand_in_tensorrt.tensorrt()
        with caplog.at_level("DEBUG", LOG.name):
            for severity in trt.ILogger.Severity:
                collecting_logger(trt).log(severity, f"100 % of {severity.name}")
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("ERROR", "100 % of INTERNAL_ERROR"),
            ("ERROR", "100 % of ERROR"),
            ("WARNING", "100 % of WARNING"),
            ("INFO", "100 % of INFO"),
            ("DEBUG", "100 % of VERBOSE"),
        ]
        assert capsys.readouterr() == ("", "")

    def test_a_later_failure_has_reasons_of_its_own(self):
        trt = stand_in_tensorrt.tensorrt()
        logger = collecting_logger(trt)
        for message in ("first", "second"):
            logger.log(trt.ILogger.ERROR, message)
            assert logger.reason() == message

    def test_of_many_long_errors_the_cause_and_the_end_are_kept(self):
        trt = stand_in_tensorrt.tensorrt()
        logger = collecting_logger(trt)
        for number in range(1000):
            logger.log(trt.ILogger.ERROR, f"error {number} " + "x" * 10**5)
        assert len(logger.errors) == 20
        reason = logger.reason()
        assert reason.startswith("error 0 x")
        assert len(reason) < 1000

    def test_has_a_reason_where_there_is_none(self):
        assert collecting_logger(stand_in_tensorrt.tensorrt()).reason() == "it gives no reason"

    @pytest.mark.parametrize("module", ["tensorrt_lean", "tensorrt_rtx"])
    def test_is_one_for_the_real_packages(self, module):
        trt = pytest.importorskip(module)
        logger = collecting_logger(trt)
        logger.log(trt.ILogger.ERROR, "an error")
        for severity in (trt.ILogger.WARNING, trt.ILogger.INFO, trt.ILogger.VERBOSE):
            logger.log(severity, "no error")
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


def test_a_file_that_is_no_library_is_refused_by_a_real_registry(tmp_path, plugin_library):
    trt = pytest.importorskip("tensorrt_lean")
    plugin_library("90").write_text("no library")
    with pytest.raises(ConfigError, match=r"plugin\.so does not bring version 9 of our plugins"):
        load_plugins(trt, trt.get_plugin_registry(), "9", "9.0")


STANDS_FOR = {
    stand_in_tensorrt.Context: "IExecutionContext",
    stand_in_tensorrt.Engine: "ICudaEngine",
    stand_in_tensorrt.Layer: "ILayer",
    stand_in_tensorrt.Network: "INetworkDefinition",
    stand_in_tensorrt.Parser: "OnnxParser",
    stand_in_tensorrt.ParserError: "ParserError",
    stand_in_tensorrt.Refitter: "Refitter",
    stand_in_tensorrt.Registry: "IPluginRegistry",
    stand_in_tensorrt.SerializationConfig: "ISerializationConfig",
    stand_in_tensorrt.Runtime: "Runtime",
}
"""TensorRT's classes and what stands in for them."""

OF_RTX = {stand_in_tensorrt.RtxEngine: "ICudaEngine", stand_in_tensorrt.RuntimeConfig: "IRuntimeConfig"}


def members(cls):
    return {name for name in vars(cls) if not name.startswith("_")}


def enumerations(version):
    return {
        name: set(enum.__members__) for name, enum in vars(stand_in_tensorrt.tensorrt(version)).items() if is_enum(enum)
    }


def is_enum(value):
    return isinstance(value, type) and issubclass(value, Enum)


@pytest.mark.parametrize("version", BINDINGS)
def test_the_stand_in_answers_nothing_that_the_version_does_not(version):
    known = BINDINGS[version]
    for cls, name in STANDS_FOR.items():
        assert members(cls), name
        assert members(cls) <= known[name], name
    for name, found in enumerations(version).items():
        assert found, name
        assert found <= known[name], name


@pytest.mark.parametrize(("package", "version"), [("tensorrt_rtx", "1.7.1"), ("tensorrt_lean", "11.4")])
def test_the_stand_in_has_no_names_of_its_own(package, version):
    """What it has in place of TensorRT's classes, their methods and enumerations is in the real packages too."""
    real = pytest.importorskip(package)
    own = {name for name in vars(stand_in_tensorrt.tensorrt(version, stand_in_tensorrt.Cuda())) if name[0].isupper()}
    missing = own - set(dir(real))
    assert missing <= ({"Builder", "OnnxParser", *OF_THE_BUILDER} if package == "tensorrt_lean" else set())
    for name, found in enumerations(version).items():
        assert name in missing or found <= set(dir(getattr(real, name))), name
    for cls, name in (STANDS_FOR | (OF_RTX if package == "tensorrt_rtx" else {})).items():
        if hasattr(real, name):
            assert members(cls) <= set(dir(getattr(real, name))), name


OF_THE_BUILDER = {"LayerType", "NetworkDefinitionCreationFlag"}
"""Enumerations that the lean package has not: it has no builder."""


def test_the_table_of_bindings_is_that_of_a_real_package():
    """The lean runtime of version 11.4 has the classes of the runtime."""
    real = pytest.importorskip("tensorrt_lean")
    compared = {name for name in BINDINGS["11.4"] if hasattr(real, name)}
    assert {"ICudaEngine", "IExecutionContext", "IPluginRegistry", "Runtime"} <= compared
    for name in compared:
        assert BINDINGS["11.4"][name] <= set(dir(getattr(real, name))), name
