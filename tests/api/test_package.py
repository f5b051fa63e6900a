import os
from pathlib import Path

import onnx
import pytest

import vimdeploy
from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.errors import ConfigError, ModelFileError, OutputError, VimdeployWarning


@pytest.fixture(autouse=True)
def library(monkeypatch, tmp_path):
    """A stand-in for the operator library."""
    path = tmp_path / "libvimdeploy_onnxruntime.so"
    path.write_bytes(b"operators")
    monkeypatch.setattr("vimdeploy.libraries.library_path", lambda runtime="onnxruntime": path)
    monkeypatch.setattr("vimdeploy.serving.triton.library_info", lambda: {"cuda_architectures": ["86"]})
    return path


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "repository"


class TestANewModel:
    def test_files(self, tiny_onnx, repository, library):
        packaged = vimdeploy.package(tiny_onnx, repository)
        files = files_in(repository / "tiny")
        assert set(files) == {"config.pbtxt", "labels.txt", library.name, "1/model.onnx"}
        assert files["1/model.onnx"] == tiny_onnx.read_bytes()
        assert sorted(packaged.files) == sorted(repository / "tiny" / name for name in files)
        assert (packaged.folder, packaged.version, packaged.kept) == (repository / "tiny", 1, False)
        assert packaged.command == ("tritonserver", f"--model-repository={repository}")

    def test_beside_others(self, tiny_onnx, repository):
        for name in ("one", "two"):
            vimdeploy.package(tiny_onnx, repository, name=name)
        assert {path.name for path in repository.iterdir()} == {"one", "two"}

    def test_the_server_sees_the_repository_elsewhere(self, tiny_onnx, repository, library):
        packaged = vimdeploy.package(tiny_onnx, repository, served_from="/models/")
        assert f'"/models/tiny/{library.name}"' in (repository / "tiny" / "config.pbtxt").read_text()
        assert packaged.command == ("tritonserver", "--model-repository=/models")

    def test_a_relative_path_is_made_a_whole_one(self, tiny_onnx, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        vimdeploy.package(tiny_onnx, "repository")
        assert f'"{tmp_path}/repository/tiny/' in Path("repository/tiny/config.pbtxt").read_text()

    def test_of_a_model_in_memory(self, tiny_proto, repository):
        assert vimdeploy.package(artifact_from_onnx(tiny_proto), repository).folder.name == "tiny"

    def test_others_may_read_it(self, tiny_onnx, repository):
        before = os.umask(0o022)
        try:
            vimdeploy.package(tiny_onnx, repository)
        finally:
            os.umask(before)
        assert all(path.stat().st_mode & 0o004 for path in [repository, *repository.rglob("*")])


class TestAFurtherVersion:
    def test_has_the_next_number(self, tiny_onnx, repository):
        numbers = [vimdeploy.package(tiny_onnx, repository, version=version).version for version in (None, 7, None)]
        assert numbers == [1, 7, 8]
        assert vimdeploy.package(tiny_onnx, repository).kept

    def test_what_was_tuned_stays(self, tiny_onnx, repository):
        config = vimdeploy.package(tiny_onnx, repository).folder / "config.pbtxt"
        tuned = config.read_text().replace("max_batch_size: 8", "max_batch_size: 32")
        config.write_text(tuned)
        with pytest.warns(VimdeployWarning, match="stays as it is"):
            vimdeploy.package(tiny_onnx, repository)
        assert config.read_text() == tuned

    def test_brings_its_library(self, tiny_onnx, repository, library):
        vimdeploy.package(tiny_onnx, repository)
        library.write_bytes(b"newer operators")
        folder = vimdeploy.package(tiny_onnx, repository).folder
        assert (folder / library.name).read_bytes() == b"newer operators"

    def test_a_configuration_that_was_removed_comes_back(self, tiny_onnx, repository):
        config = vimdeploy.package(tiny_onnx, repository).folder / "config.pbtxt"
        config.unlink()
        vimdeploy.package(tiny_onnx, repository, max_batch=4)
        assert "max_batch_size: 4" in config.read_text()

    def test_the_same_number_is_refused(self, tiny_onnx, repository):
        vimdeploy.package(tiny_onnx, repository)
        before = files_in(repository)
        with pytest.raises(OutputError, match="has a version 1 already"):
            vimdeploy.package(tiny_onnx, repository, version=1)
        assert files_in(repository) == before

    def test_of_another_model_is_refused(self, tiny_onnx, any_size_proto, repository):
        vimdeploy.package(tiny_onnx, repository)
        before = files_in(repository)
        with pytest.raises(OutputError, match=r"config\.pbtxt has others"):
            vimdeploy.package(artifact_from_onnx(any_size_proto), repository, name="tiny")
        assert files_in(repository) == before

    def test_with_other_labels_is_refused(self, tiny_onnx, tiny_proto, repository):
        vimdeploy.package(tiny_onnx, repository)
        other = onnx.ModelProto()
        other.CopyFrom(tiny_proto)
        next(entry for entry in other.metadata_props if entry.key == "vimdeploy.labels").value = '["a","b","c","d","e"]'
        with pytest.raises(OutputError, match=r"labels\.txt has others"):
            vimdeploy.package(artifact_from_onnx(other), repository)

    def test_of_a_folder_that_cannot_be_read_is_refused(self, tiny_onnx, repository):
        vimdeploy.package(tiny_onnx, repository)
        (repository / "tiny" / "labels.txt").write_bytes(b"\xff")
        with pytest.raises(OutputError, match="cannot be read: line 1 is not UTF-8"):
            vimdeploy.package(tiny_onnx, repository)


class TestRefused:
    @pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", ".hidden", "-v", "a b", "ä", "x" * 201])
    def test_names(self, tiny_onnx, repository, name):
        with pytest.raises(ConfigError, match="A model's name has letters"):
            vimdeploy.package(tiny_onnx, repository, name=name)
        assert not repository.exists()

    @pytest.mark.parametrize("options", [{"server": "other"}, {"version": 0}, {"device": "tpu"}, {"max_batch": 0}])
    def test_options(self, tiny_onnx, repository, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            vimdeploy.package(tiny_onnx, repository, **options)
        assert not repository.exists()

    def test_a_file_of_another_program(self, foreign_onnx, repository):
        with pytest.raises(ModelFileError):
            vimdeploy.package(foreign_onnx, repository)
        assert not repository.exists()

    def test_a_file_in_place_of_the_repository(self, tiny_onnx, repository):
        repository.write_text("mine")
        with pytest.raises(OutputError):
            vimdeploy.package(tiny_onnx, repository)
        assert repository.read_text() == "mine"

    def test_a_file_in_place_of_the_model(self, tiny_onnx, repository):
        repository.mkdir()
        (repository / "tiny").write_text("mine")
        with pytest.raises(OutputError):
            vimdeploy.package(tiny_onnx, repository)
        assert files_in(repository) == {"tiny": b"mine"}

    def test_no_place_for_the_repository(self, tiny_onnx, tmp_path):
        with pytest.raises(OutputError, match="does not exist; create it first"):
            vimdeploy.package(tiny_onnx, tmp_path / "none" / "repository")

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_full_disk_leaves_nothing(self, tiny_onnx, repository, monkeypatch, exists):
        if exists:
            vimdeploy.package(tiny_onnx, repository)
        before = files_in(repository)

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            vimdeploy.package(tiny_onnx, repository)
        assert files_in(repository) == before
        assert repository.exists() is exists
