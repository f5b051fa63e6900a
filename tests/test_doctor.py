import ctypes
import subprocess
import sys

import pytest

from vimdeploy import doctor
from vimdeploy.doctor import MISSING, PROBLEM, READY, examine


def finding(name):
    return next(finding for finding in examine() if finding.name == name)


@pytest.fixture
def installed(monkeypatch):
    """Packages as if these versions, by name, were all that is installed."""

    def install(**versions):
        monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name.replace("-", "_")))

    return install


class TestOnThisMachine:
    def test_python(self):
        assert finding("Python").found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")

    @pytest.mark.parametrize("name", ["onnxruntime", "torch", "safetensors", "onnxscript"])
    def test_what_the_tests_need_is_ready(self, name):
        assert finding(name).state == READY

    def test_onnx_runtimes_providers(self):
        assert "CPUExecutionProvider" in finding("providers").found

    def test_nothing_is_a_problem(self):
        assert [finding for finding in examine() if finding.state == PROBLEM] == []

    def test_names_are_unique(self):
        names = [finding.name for finding in examine()]
        assert len(set(names)) == len(names)

    def test_torch_is_not_imported(self):
        code = "import sys; from vimdeploy.doctor import examine; examine(); assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)


class TestPackages:
    def test_a_version_is_told(self, installed):
        installed(torch="2.99")
        assert finding("torch").found == "2.99"

    @pytest.mark.parametrize(
        ("name", "extra"),
        [
            ("torch", "export"),
            ("onnxscript", "export"),
            ("safetensors", "export"),
            ("huggingface_hub", "hub"),
            ("tensorrt", "tensorrt"),
            ("tensorrt-rtx", "rtx"),
        ],
    )
    def test_a_missing_one_has_the_command_that_brings_it(self, installed, name, extra):
        installed()
        found = finding(name)
        assert (found.state, found.cure) == (MISSING, f"pip install 'vimdeploy[{extra}]'")

    def test_two_onnx_runtimes_lie_over_each_other(self, installed):
        installed(onnxruntime="1.31", onnxruntime_gpu="1.31")
        found = finding("onnxruntime")
        assert found.state == PROBLEM
        assert found.cure.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install")

    def test_an_onnx_runtime_that_cannot_be_imported(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        found = finding("onnxruntime")
        assert (found.state, found.cure) == (PROBLEM, "pip install --force-reinstall onnxruntime")


class TestOperatorLibrary:
    def library(self, monkeypatch, info):
        monkeypatch.setattr(doctor, "library_info", info)
        return finding("operator library")

    def test_tells_what_it_chose(self, monkeypatch):
        info = {"instruction_set": "AVX2", "instruction_sets": ["AVX2", "SSE4"], "types": ["float32", "float16"]}
        found = self.library(monkeypatch, lambda: info)
        assert found.state == READY
        assert "instruction set AVX2 (also here: SSE4); types float32, float16" in found.found

    def test_missing_only_makes_slower(self, monkeypatch):
        found = self.library(monkeypatch, lambda: None)
        assert (found.state, "slower" in found.found) == (MISSING, True)
        assert found.cure.startswith("pip install")

    @pytest.mark.parametrize("error", [OSError("wrong ELF class"), AttributeError("no symbol"), ValueError("no JSON")])
    def test_one_that_cannot_be_loaded_is_a_problem(self, monkeypatch, error):
        def fail():
            raise error

        found = self.library(monkeypatch, fail)
        assert (found.state, str(error) in found.found) == (PROBLEM, True)


class Driver:
    """libcuda with so many GPUs."""

    def __init__(self, devices, status=0):
        self.devices, self.status = devices, status

    def cuInit(self, _):  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.devices
        return 0

    def cuDeviceGetName(self, label, _length, _device):  # noqa: N802
        label.value = b"NVIDIA Example"


class TestGpu:
    def gpu(self, monkeypatch, driver):
        monkeypatch.setattr(ctypes, "CDLL", driver)
        return doctor._gpu()

    def test_no_driver(self, monkeypatch):
        def none(name):
            raise OSError(name)

        assert self.gpu(monkeypatch, none).state == MISSING

    def test_its_name_and_number(self, monkeypatch):
        found = self.gpu(monkeypatch, lambda name: Driver(2))
        assert (found.state, found.found) == (READY, "2 x NVIDIA Example")

    @pytest.mark.parametrize("driver", [Driver(0), Driver(1, status=100)])
    def test_a_driver_without_a_gpu(self, monkeypatch, driver):
        assert self.gpu(monkeypatch, lambda name: driver).state == MISSING


class TestCudaCompiler:
    def test_none(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert finding("CUDA compiler").state == MISSING

    def test_its_release(self, monkeypatch, tmp_path):
        nvcc = tmp_path / "nvcc"
        nvcc.write_text("#!/bin/sh\necho Cuda compilation tools, release 12.6, V12.6.20\n")
        nvcc.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert finding("CUDA compiler").found == f"{nvcc}, CUDA 12.6"
