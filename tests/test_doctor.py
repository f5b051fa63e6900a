import subprocess
import sys
from pathlib import Path

import pytest

import vimdeploy
from vimdeploy import doctor
from vimdeploy.doctor import MISSING, PROBLEM, READY, Finding, examine
from vimdeploy.errors import ConfigError
from vimdeploy.gpu import Gpu
from vimdeploy.installation import install_command
from vimdeploy.runtimes.cuda_provider import INSTALL


def finding(name):
    return next(finding for finding in examine() if finding.name == name)


@pytest.fixture
def installed(monkeypatch):
    """Packages as if these versions, by name, were all that is installed."""

    def install(**versions):
        monkeypatch.setattr(doctor, "installed_version", lambda name: versions.get(name.replace("-", "_")))

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


class TestVimdeploy:
    FOLDER = Path(vimdeploy.__path__[0])

    def found(self, monkeypatch, library):
        monkeypatch.setattr(doctor, "library_path", lambda runtime="onnxruntime": library)
        return finding("vimdeploy")

    @pytest.mark.parametrize("library", [None, FOLDER / "lib/libvimdeploy_onnxruntime.so"])
    def test_says_what_is_running(self, installed, monkeypatch, library):
        installed(vimdeploy="0.1.0")
        wanted = Finding("vimdeploy", READY, f"0.1.0, imported from {self.FOLDER}")
        assert self.found(monkeypatch, library) == wanted

    def test_sources_beside_an_installed_package_take_its_library(self, monkeypatch, tmp_path):
        found = self.found(monkeypatch, tmp_path / "vimdeploy/lib/libvimdeploy_onnxruntime.so").found
        assert f"a source folder; its compiled operators are those of {tmp_path / 'vimdeploy'}, so install" in found
        assert found.endswith("pip install .")

    def test_sources_that_nobody_installed(self, installed):
        installed()
        assert finding("vimdeploy").found.startswith(f"not installed, imported from {self.FOLDER}")


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
            ("polygraphy", "tensorrt"),
            ("pycuda", "tensorrt"),
            ("tensorrt-rtx", "rtx"),
        ],
    )
    def test_a_missing_one_has_the_command_that_brings_it(self, installed, name, extra):
        installed()
        found = finding(name)
        assert (found.state, found.cure) == (MISSING, install_command(extra))

    def test_two_onnx_runtimes_lie_over_each_other(self, installed):
        installed(onnxruntime="1.31", onnxruntime_gpu="1.31")
        found = finding("onnxruntime")
        assert found.state == PROBLEM
        assert found.found.endswith("install into the same folder and break each other: keep only one")
        assert found.cure == INSTALL

    @pytest.mark.parametrize("package", ["onnxruntime", "onnxruntime-gpu"])
    def test_an_onnx_runtime_that_cannot_be_imported(self, monkeypatch, installed, package):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        installed(**{package.replace("-", "_"): "1.31"})
        found = finding("onnxruntime")
        assert (found.state, found.cure) == (PROBLEM, f"pip install --force-reinstall {package}")

    def test_no_onnx_runtime_at_all(self, monkeypatch, installed):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        installed()
        found = finding("onnxruntime")
        assert (found.state, found.cure) == (MISSING, install_command("cpu"))
        assert "on a GPU, install gpu instead of cpu" in found.found


@pytest.fixture
def no_gpu(monkeypatch):
    def none():
        raise ConfigError("no GPU")

    monkeypatch.setattr(doctor, "gpus", none)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one GPU of compute capability 9.0."""
    for module in ("doctor", "gpu"):
        monkeypatch.setattr(f"vimdeploy.{module}.gpus", lambda: [Gpu("NVIDIA Example", "9.0")])


class TestOperatorLibrary:
    @pytest.fixture
    def library(self, monkeypatch):
        """The library as if it had been built for these architectures."""

        def build(*architectures):
            info = {
                "instruction_set": "AVX2",
                "instruction_sets": ["AVX2", "SSE4"],
                "types": ["float32", "float16"],
                "cuda_architectures": list(architectures),
                "cuda_version": "13.0" if architectures else "",
            }
            monkeypatch.setattr(doctor, "library_info", lambda: info)

        return build

    def test_tells_what_it_chose(self, library):
        library()
        found = finding("operator library")
        assert found.state == READY
        assert "instruction set AVX2 (also here: SSE4); types float32, float16" in found.found

    def test_missing_only_makes_slower(self, monkeypatch):
        monkeypatch.setattr(doctor, "library_info", lambda: None)
        found = finding("operator library")
        assert (found.state, "slower" in found.found) == (MISSING, True)
        assert found.cure.startswith("pip install")

    def test_one_that_cannot_be_loaded_is_a_problem(self, monkeypatch):
        def fail():
            raise ConfigError("libvimdeploy_onnxruntime.so cannot be loaded: wrong ELF class")

        monkeypatch.setattr(doctor, "library_info", fail)
        found = finding("operator library")
        assert (found.state, "wrong ELF class" in found.found) == (PROBLEM, True)

    def test_without_cuda_kernels(self, library):
        library()
        found = finding("CUDA kernels")
        assert (found.state, "nvcc" in found.cure) == (MISSING, True)

    def test_cuda_kernels_without_a_gpu(self, library, no_gpu):
        library("75-real", "80")
        assert finding("CUDA kernels") == Finding("CUDA kernels", READY, "for 75-real, 80, by CUDA 13.0")

    def test_cuda_kernels_for_the_gpu(self, library, gpu):
        library("75-real", "80")
        assert finding("CUDA kernels").state == READY

    def test_cuda_kernels_for_another_gpu(self, library, gpu):
        library("75-real", "80-real")
        found = finding("CUDA kernels")
        assert (found.state, "nvcc" in found.cure) == (PROBLEM, True)
        assert found.found == "for 75-real, 80-real, by CUDA 13.0; none for NVIDIA Example, compute capability 9.0"


class TestGpu:
    def test_none(self, no_gpu):
        found = finding("NVIDIA GPU")
        assert (found.state, found.found) == (MISSING, "no GPU: this machine runs files on its CPU")

    def test_its_name(self, gpu):
        assert finding("NVIDIA GPU") == Finding("NVIDIA GPU", READY, "NVIDIA Example (compute capability 9.0)")


class TestCudaProvider:
    @pytest.fixture
    def onnxruntime_gpu(self, gpu, monkeypatch):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
        monkeypatch.setattr(doctor, "load_cuda_libraries", list)

    def test_without_a_gpu_there_is_nothing_to_install(self):
        found = finding("CUDA provider")
        assert (found.state, found.cure) == (MISSING, "")

    def test_an_onnx_runtime_without_it(self, gpu, monkeypatch):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
        found = finding("CUDA provider")
        assert (found.state, found.cure) == (MISSING, INSTALL)

    def test_ready(self, onnxruntime_gpu):
        assert finding("CUDA provider").state == READY

    def test_without_its_libraries(self, onnxruntime_gpu, monkeypatch):
        monkeypatch.setattr(doctor, "load_cuda_libraries", lambda: ["libcublas.so.13", "libcudnn.so.9"])
        found = finding("CUDA provider")
        assert found == Finding(
            "CUDA provider", PROBLEM, "libraries not found: libcublas.so.13, libcudnn.so.9", INSTALL
        )


class TestTensorRtPlugin:
    @pytest.mark.parametrize(("path", "state"), [(None, MISSING), (Path("libvimdeploy_tensorrt.so"), READY)])
    def test_is_looked_for(self, monkeypatch, path, state):
        monkeypatch.setattr(doctor, "library_path", lambda runtime="onnxruntime": path)
        found = finding("TensorRT plugin")
        assert (found.state, "VIMDEPLOY_TENSORRT" in found.cure) == (state, path is None)


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
