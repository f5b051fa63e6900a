import pytest

from vimdeploy import libraries
from vimdeploy.errors import ConfigError
from vimdeploy.libraries import architectures_cover, library_info


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
        monkeypatch.setattr(libraries, "library_path", lambda: None)
        assert library_info.__wrapped__() is None

    def test_a_library_that_is_none(self, monkeypatch, tmp_path):
        broken = tmp_path / "libvimdeploy_onnxruntime.so"
        broken.write_bytes(b"not a library")
        monkeypatch.setattr(libraries, "library_path", lambda: broken)
        with pytest.raises(ConfigError, match=r"libvimdeploy_onnxruntime\.so cannot be loaded: "):
            library_info.__wrapped__()
