import pytest

from vimdeploy import libraries
from vimdeploy.errors import ConfigError
from vimdeploy.gpu import Gpu
from vimdeploy.libraries import library_path
from vimdeploy.runtimes import cuda_provider, operator_library
from vimdeploy.runtimes.operator_library import choose_library


class TestChoiceOnAGpu:
    @pytest.fixture
    def built_for(self, monkeypatch):
        """A GPU of compute capability 9.0, and a library as if it had been built for these architectures."""
        for module in (cuda_provider, operator_library):
            monkeypatch.setattr(module, "gpus", lambda: [Gpu("NVIDIA Example", "9.0")])
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])

        def build(*architectures):
            info = {"cuda_architectures": list(architectures)}
            monkeypatch.setattr(libraries, "library_info", lambda: info)

        return build

    @pytest.mark.parametrize("operators", ["auto", "library"])
    def test_a_library_with_kernels_for_it(self, built_for, operators):
        built_for("80-real", "90")
        assert choose_library(operators, on_cuda=True) == library_path()

    @pytest.mark.parametrize("architectures", [(), ("80-real",)])
    def test_auto_is_the_function_body_where_it_has_none(self, built_for, architectures):
        built_for(*architectures)
        assert choose_library("auto", on_cuda=True) is None
        assert choose_library("auto", on_cuda=False) == library_path()

    def test_library_is_refused_where_it_has_none(self, built_for):
        built_for()
        with pytest.raises(ConfigError, match=r"CUDA kernels for no GPU, wanted were some for compute capability 9\.0"):
            choose_library("library", on_cuda=True)
