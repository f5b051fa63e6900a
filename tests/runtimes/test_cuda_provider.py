from pathlib import Path

import onnxruntime as ort
import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import FIRST_GPU, Gpu
from vimdeploy.runtimes.cuda_provider import CUDA_PROVIDER, INSTALL, check_cuda, cuda_obstacle, load_cuda_libraries


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("NVIDIA Example", "9.0")])


def test_no_gpu_comes_first(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ConfigError, match=r"^Wanted device cuda, found no GPU in the tests; use device cpu\.$"):
        check_cuda(FIRST_GPU)


def test_an_onnx_runtime_without_cuda(gpu, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError) as error:
        check_cuda(FIRST_GPU)
    found = "an ONNX Runtime without CUDA (it has: CPUExecutionProvider)"
    assert str(error.value) == f"Wanted device cuda, found {found}; install it with: {INSTALL}."


def test_nothing_in_the_way(gpu, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert cuda_obstacle() is None
    check_cuda(FIRST_GPU)


def test_the_library_has_its_kernels_for_the_provider_that_is_asked_for():
    source = (Path(__file__).parents[2] / "plugins/onnxruntime/cuda_operators.cpp").read_text()
    assert f'kProvider = "{CUDA_PROVIDER}"' in source


def test_a_wheel_whose_cuda_provider_is_a_plugin_has_it_under_the_same_name():
    """The first such wheel brings this test to life; its kernels then want a look on a GPU."""
    if ", cuda-plugin-ep=" not in ort.get_build_info():
        pytest.skip("the CUDA provider of this ONNX Runtime is no plugin")
    assert CUDA_PROVIDER in ort.get_available_providers()


def test_a_plugin_of_another_name_does_not_count(gpu, monkeypatch):
    """Our operators would run on the CPU beside it."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CudaPluginExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(
        ConfigError, match=r"without CUDA \(it has: CudaPluginExecutionProvider, CPU.*; install it with"
    ):
        check_cuda(FIRST_GPU)


def test_libraries_that_are_missing_are_told_and_not_printed(monkeypatch, capsys):
    def preload():
        print("Failed to load libcublas.so.13: cannot open shared object file")
        print("Please install CUDA.")

    monkeypatch.setattr(ort, "preload_dlls", preload)
    assert load_cuda_libraries() == ["libcublas.so.13"]
    assert capsys.readouterr().out == ""
