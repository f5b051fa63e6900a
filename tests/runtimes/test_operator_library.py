import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import Gpu
from vimdeploy.runtimes import cuda_provider, operator_library
from vimdeploy.runtimes.operator_library import architectures_cover, choose_library, library_info, library_path


class TestArchitectures:
    @pytest.mark.parametrize("architecture", ["80-real", "86-real", "86", "80-virtual", "75", "75-virtual", "native"])
    def test_that_run_on_8_6(self, architecture):
        assert architectures_cover(["120-real", architecture], "8.6")

    @pytest.mark.parametrize("architecture", ["75-real", "87", "87-virtual", "90-real", "120"])
    def test_that_do_not(self, architecture):
        assert not architectures_cover([architecture], "8.6")

    def test_two_digits(self):
        assert architectures_cover(["90", "100-real"], "10.0")
        assert not architectures_cover(["100-real"], "12.0")

    def test_none(self):
        assert not architectures_cover([], "9.0")


class TestInfo:
    def test_the_library_tells_of_itself(self):
        info = library_info()
        assert info["instruction_set"] in info["instruction_sets"]
        assert set(info["types"]) == {"float32", "float16", "bfloat16"}
        assert bool(info["cuda_architectures"]) == bool(info["cuda_version"])

    def test_there_is_nothing_to_tell_without_the_library(self, monkeypatch):
        monkeypatch.setattr(operator_library, "library_path", lambda: None)
        assert library_info.__wrapped__() is None

    def test_a_library_that_is_none(self, monkeypatch, tmp_path):
        broken = tmp_path / "libvimdeploy_onnxruntime.so"
        broken.write_bytes(b"not a library")
        monkeypatch.setattr(operator_library, "library_path", lambda: broken)
        with pytest.raises(ConfigError, match=r"libvimdeploy_onnxruntime\.so cannot be loaded: "):
            library_info.__wrapped__()


class TestChoiceOnAGpu:
    @pytest.fixture
    def built_for(self, monkeypatch):
        """A GPU of compute capability 9.0, and a library as if it had been built for these architectures."""
        for module in (cuda_provider, operator_library):
            monkeypatch.setattr(module, "gpus", lambda: [Gpu("NVIDIA Example", "9.0")])
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])

        def build(*architectures):
            info = {"cuda_architectures": list(architectures)}
            monkeypatch.setattr(operator_library, "library_info", lambda: info)

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
