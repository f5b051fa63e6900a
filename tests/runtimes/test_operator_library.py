import pytest

from vimdeploy import libraries
from vimdeploy.errors import ConfigError
from vimdeploy.gpu import FIRST_GPU, Device, Gpu
from vimdeploy.libraries import library_path
from vimdeploy.runtimes.operator_library import ChosenLibrary, choose_library

BODIES = ChosenLibrary(None)


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setattr(libraries, "library_path", lambda: None)


class TestChoice:
    @pytest.mark.parametrize("operators", ["auto", "library"])
    def test_the_library(self, operators):
        assert choose_library(operators, Device("cpu")) == ChosenLibrary(library_path())

    @pytest.mark.parametrize("operators", ["function-body", "function body"])
    def test_the_bodies_in_both_spellings(self, operators):
        assert choose_library(operators, Device("cpu")) == BODIES

    @pytest.mark.parametrize("operators", ["", "Library", "function_body", "plugin"])
    def test_no_other(self, operators):
        with pytest.raises(ConfigError, match="operators must be one of auto, library, function-body, found"):
            choose_library(operators, Device("cpu"))

    def test_auto_without_the_library_says_what_it_lacks(self, no_library):
        library, lack = choose_library("auto", Device("cpu"))
        assert library is None
        assert lack.startswith("The compiled operators are not in this installation of vimdeploy; install it where a C")

    def test_library_without_the_library(self, no_library):
        with pytest.raises(ConfigError, match=r"not in this installation .*, or use operators='function-body'\.$"):
            choose_library("library", Device("cpu"))

    def test_bodies_without_the_library(self, no_library):
        assert choose_library("function-body", Device("cpu")) == BODIES


class TestChoiceOnAGpu:
    @pytest.fixture
    def built_for(self, monkeypatch):
        """A GPU of compute capability 9.0, and a library as if it had been built for these architectures."""
        monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("NVIDIA Example", "9.0")])
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])

        def build(*architectures):
            info = {"cuda_architectures": list(architectures)}
            monkeypatch.setattr(libraries, "library_info", lambda: info)

        return build

    @pytest.mark.parametrize("operators", ["auto", "library"])
    def test_a_library_with_kernels_for_it(self, built_for, operators):
        built_for("80-real", "90")
        assert choose_library(operators, FIRST_GPU) == ChosenLibrary(library_path())

    @pytest.mark.parametrize("architectures", [(), ("80-real",)])
    def test_auto_is_the_function_body_if_it_has_none(self, built_for, architectures):
        built_for(*architectures)
        library, lack = choose_library("auto", FIRST_GPU)
        assert (library, "wanted were some for compute capability 9.0" in lack) == (None, True)
        assert choose_library("auto", Device("cpu")) == ChosenLibrary(library_path())

    def test_library_is_refused_if_it_has_none(self, built_for):
        built_for()
        with pytest.raises(ConfigError, match=r"CUDA kernels for no GPU, wanted were some for compute capability 9\.0"):
            choose_library("library", FIRST_GPU)
