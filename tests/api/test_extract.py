import csv
import itertools
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

import vimdeploy
from vimdeploy.api import extract as module
from vimdeploy.api.extract import FORMATS
from vimdeploy.cli.extract import extract as command
from vimdeploy.errors import ConfigError, ImageError, MissingPackageError, OutputError
from vimdeploy.tasks.classification import Classification


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """25 pictures."""
    folder = tmp_path_factory.mktemp("some")
    for number in range(25):
        Image.new("RGB", (32, 32), (10 * number, 0, 0)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def wanted(tiny_onnx, folder):
    """The logits of each picture."""
    with vimdeploy.load(tiny_onnx) as session:
        return np.stack([answer.logits for answer in session.predict(sorted(folder.iterdir()))])


def index(output):
    rows = []
    for path in sorted(output.glob("*.csv")):
        with path.open(newline="") as file:
            rows += [(path.stem, *row.values()) for row in csv.DictReader(file)]
    return rows


def shards(output):
    """All vectors, and the pictures that the indexes give them."""
    vectors = {path.stem: load_file(path)["logits"] for path in sorted(output.glob("*.safetensors"))}
    images = [Path(image).name for stem, image, row, error in index(output) if not error]
    return np.concatenate(list(vectors.values())), images


def test_shards_hold_a_vector_for_each_picture(tiny_onnx, folder, tmp_path, wanted):
    done = vimdeploy.extract(tiny_onnx, folder, tmp_path / "new" / "vectors", shard_size=10)
    assert (done.vectors, done.shards, done.before, done.without) == (25, 3, 0, 0)
    vectors, images = shards(tmp_path / "new/vectors")
    np.testing.assert_array_equal(vectors, wanted)
    assert images == [f"{number:02}.png" for number in range(25)]
    with safe_open(tmp_path / "new/vectors/00001.safetensors", "numpy") as file:
        assert file.metadata() == {"model": "tiny", "sha256": vimdeploy.inspect(tiny_onnx)["sha256"]}


def test_parquet_has_the_names_beside_the_vectors(tiny_onnx, folder, tmp_path, wanted):
    dataset = pytest.importorskip("pyarrow.dataset")
    vimdeploy.extract(tiny_onnx, folder, tmp_path, file_format="parquet", shard_size=10)
    table = dataset.dataset(tmp_path, format="parquet", exclude_invalid_files=True).to_table()
    np.testing.assert_array_equal(np.stack(table["logits"].to_numpy()), wanted)
    assert table["image"].to_pylist() == [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.slow
def test_features_are_the_pooled_vectors(any_size_proto, folder, tmp_path):
    (tmp_path / "features.onnx").write_bytes(any_size_proto.SerializeToString())
    vimdeploy.extract(tmp_path / "features.onnx", folder, tmp_path / "vectors")
    assert load_file(tmp_path / "vectors/00000.safetensors")["pooled"].shape == (25, 16)


@pytest.mark.parametrize("file_format", FORMATS)
class TestResume:
    @pytest.mark.parametrize("kept", range(3))
    def test_gives_each_picture_once(self, tiny_onnx, folder, tmp_path, file_format, kept):
        """Shards of a killed process are whole; one whose index is not there yet is written again."""
        if file_format == "parquet":
            pytest.importorskip("pyarrow")
        vimdeploy.extract(tiny_onnx, folder, tmp_path, file_format=file_format, shard_size=10)
        for number in range(kept, 3):
            (tmp_path / f"{number:05}.csv").unlink()
        done = vimdeploy.extract(tiny_onnx, folder, tmp_path, file_format=file_format, shard_size=10, resume=True)
        assert (done.before, done.vectors) == (10 * kept, 25 - 10 * kept)
        assert [image for _, image, _, _ in index(tmp_path)] == [str(path) for path in sorted(folder.iterdir())]

    def test_of_another_model_or_format(self, tiny_proto, tiny_onnx, folder, tmp_path, file_format):
        if file_format == "parquet":
            pytest.importorskip("pyarrow")
        vimdeploy.extract(tiny_onnx, folder, tmp_path / "vectors", file_format=file_format)
        other = onnx.ModelProto.FromString(tiny_proto.SerializeToString())
        other.doc_string = "another"
        onnx.save(other, tmp_path / "other.onnx")
        with pytest.raises(OutputError, match="has vectors of another file, tiny; go on with that"):
            vimdeploy.extract(
                tmp_path / "other.onnx", folder, tmp_path / "vectors", file_format=file_format, resume=True
            )
        [another] = set(FORMATS) - {file_format}
        with pytest.raises(OutputError, match="has another format"):
            vimdeploy.extract(tiny_onnx, folder, tmp_path / "vectors", file_format=another, resume=True)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_writes_what_it_has(tiny_onnx, folder, tmp_path, wanted, ending):
    def interrupted(done, without):
        if done == 13:
            raise ending

    with pytest.raises(ending):
        vimdeploy.extract(tiny_onnx, folder, tmp_path, shard_size=10, progress=interrupted)
    assert len(index(tmp_path)) == 13
    assert vimdeploy.extract(tiny_onnx, folder, tmp_path, shard_size=10, resume=True).vectors == 12
    np.testing.assert_array_equal(shards(tmp_path)[0], wanted)


def test_pictures_without_a_vector_are_in_the_index(tiny_onnx, folder, tmp_path):
    sources = [folder / "00.png", "none.png", folder / "01.png", *(f"{number}.png" for number in range(40, 50))]
    done = vimdeploy.extract(tiny_onnx, sources, tmp_path, shard_size=5)
    assert (done.vectors, done.shards, done.without, len(done.errors)) == (2, 3, 11, 5)
    assert isinstance(done.errors[0], ImageError)
    assert [row[2:] for row in index(tmp_path)[:3]] == [
        ("0", ""),
        ("", "The picture none.png cannot be read: No such file or directory."),
        ("1", ""),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000.csv",
        "00000.safetensors",
        "00001.csv",
        "00002.csv",
    ]
    assert vimdeploy.extract(tiny_onnx, sources, tmp_path, resume=True).before == 13


class TestRefused:
    def test_a_task_without_a_vector(self, tiny_onnx, tmp_path, monkeypatch):
        monkeypatch.setattr(Classification, "vector", "")
        with pytest.raises(ConfigError, match=r"^Wanted a file of the task features or classification, found .*"):
            vimdeploy.extract(tiny_onnx, "none", tmp_path / "vectors")
        assert not (tmp_path / "vectors").exists()

    @pytest.mark.parametrize("wrong", [{"file_format": "hdf5"}, {"shard_size": 0}, {"shard_size": 2_000_000}], ids=str)
    def test_an_option(self, tiny_onnx, folder, tmp_path, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            vimdeploy.extract(tiny_onnx, folder, tmp_path, **wrong)

    def test_a_folder_with_shards(self, tiny_onnx, folder, tmp_path):
        vimdeploy.extract(tiny_onnx, folder / "00.png", tmp_path)
        with pytest.raises(OutputError, match="has shards already: go on with them by --resume, or choose another"):
            vimdeploy.extract(tiny_onnx, folder / "00.png", tmp_path)

    @pytest.mark.parametrize("content", [b"", b"a,b\n", b'image,row,error\n"a', b"image,row,error\n\n"])
    def test_an_index_of_something_else(self, tiny_onnx, folder, tmp_path, content):
        (tmp_path / "00000.csv").write_bytes(content)
        with pytest.raises(OutputError, match=r"00000\.csv is no index of shards that this run can go on with"):
            vimdeploy.extract(tiny_onnx, folder, tmp_path, resume=True)

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_a_shard_of_something_else(self, tiny_onnx, folder, tmp_path, file_format):
        if file_format == "parquet":
            pytest.importorskip("pyarrow")
        (tmp_path / "00000.csv").write_text("image,row,error\na.png,0,\n")
        (tmp_path / f"00000.{file_format}").write_bytes(b"nonsense")
        with pytest.raises(OutputError, match=rf"00000\.{file_format} cannot be read: "):
            vimdeploy.extract(tiny_onnx, folder, tmp_path, file_format=file_format, resume=True)

    def test_a_file_as_the_folder(self, tiny_onnx, folder):
        with pytest.raises(OutputError, match="cannot be made: File exists"):
            vimdeploy.extract(tiny_onnx, folder, tiny_onnx)

    def test_parquet_without_pyarrow(self, tiny_onnx, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(MissingPackageError, match=r"This needs the package pyarrow\.parquet"):
            vimdeploy.extract(tiny_onnx, folder, tmp_path / "vectors", file_format="parquet")
        assert not (tmp_path / "vectors").exists()


def test_a_full_disk_leaves_whole_shards(tiny_onnx, folder, tmp_path, monkeypatch):
    write, calls = module.write_together, itertools.count()

    def full(files):
        if next(calls) == 1:
            raise OutputError("The disk is full.")
        write(files)

    monkeypatch.setattr(module, "write_together", full)
    with pytest.raises(OutputError, match="The disk is full"):
        vimdeploy.extract(tiny_onnx, folder, tmp_path, shard_size=10)
    assert len(index(tmp_path)) == 10


def test_the_command_offers_the_same_formats():
    [option] = [option for option in command.params if option.name == "file_format"]
    assert list(option.type.choices) == list(FORMATS)
