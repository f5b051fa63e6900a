import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from vimdeploy import libraries
from vimdeploy.errors import ConfigError
from vimdeploy.libraries import architectures_cover, cmake_prefix, library_info, library_path


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


class TestPath:
    @pytest.fixture
    def package(self, monkeypatch, tmp_path):
        """``package(folder, ...)`` -> the libraries made there; the last folder is the installed package's."""

        def make(*libraries_of, installed=None):
            made = {}
            for folder in libraries_of:
                path = tmp_path / folder / "lib" / f"libvimdeploy_onnxruntime{libraries._SUFFIX}"
                path.parent.mkdir(parents=True)
                path.touch()
                made[folder] = path
            found = SimpleNamespace(locate_file=lambda name: tmp_path / "site" / name)

            def distribution(name):
                assert name == "vimdeploy"
                if installed is None:
                    raise metadata.PackageNotFoundError(name)
                return found

            monkeypatch.setattr(metadata, "distribution", distribution)
            monkeypatch.setattr(sys.modules["vimdeploy"], "__path__", [str(tmp_path / f) for f in ("sources", "built")])
            return made

        return make

    def test_is_in_the_imported_package(self, package):
        made = package("sources", "site/vimdeploy", installed=True)
        assert library_path() == made["sources"]

    def test_is_in_any_folder_of_the_imported_package(self, package):
        """An editable installation has two."""
        made = package("built")
        assert library_path() == made["built"]

    def test_is_in_the_installed_package_if_the_imported_one_has_none(self, package):
        """Python started in the folder of the sources imports those."""
        made = package("site/vimdeploy", installed=True)
        assert library_path() == made["site/vimdeploy"]

    def test_is_not_there(self, package):
        package(installed=True)
        assert library_path() is None

    def test_is_not_there_without_an_installed_package(self, package):
        package()
        assert library_path() is None

    def test_is_one_of_each_runtime(self, package):
        package("sources")
        assert library_path("tensorrt") is None

    def test_of_the_package_for_cmake_is_above_the_library(self, package, tmp_path):
        package("built")
        config = tmp_path / "built/lib/cmake/vimdeploy/vimdeployConfig.cmake"
        config.parent.mkdir(parents=True)
        config.touch()
        assert cmake_prefix() == tmp_path / "built"

    @pytest.mark.parametrize("built", [(), ("built",)], ids=["no-library", "old-library"])
    def test_of_the_package_for_cmake_is_not_there(self, package, built):
        package(*built)
        assert cmake_prefix() is None


class TestInfo:
    def test_the_library_tells_of_itself(self):
        info = library_info()
        assert info["instruction_set"] in info["instruction_sets"]
        assert set(info["types"]) == {"float32", "float16", "bfloat16"}
        assert bool(info["cuda_architectures"]) == bool(info["cuda_version"])

    def test_there_is_nothing_to_tell_without_the_library(self, monkeypatch):
        monkeypatch.setattr(libraries, "library_path", lambda runtime: None)
        assert library_info.__wrapped__() is None

    def test_a_library_that_is_none(self, monkeypatch, tmp_path):
        broken = tmp_path / "libvimdeploy_onnxruntime.so"
        broken.write_bytes(b"not a library")
        monkeypatch.setattr(libraries, "library_path", lambda runtime: broken)
        with pytest.raises(ConfigError, match=r"libvimdeploy_onnxruntime\.so cannot be loaded: "):
            library_info.__wrapped__()
