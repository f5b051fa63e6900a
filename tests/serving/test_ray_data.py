"""A batch of Ray's becomes a table with answers; ``tests/samples/test_ray.py`` has the cluster."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from helpers.detections import Always
from PIL import Image

from vimdeploy import load
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.serving.ray_data import Predictor

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)


@pytest.fixture
def files(pixels):
    """The pictures as files; the second is none."""

    def file(array):
        data = io.BytesIO()
        Image.fromarray(array).save(data, "PNG")
        return data.getvalue()

    return np.array([file(pixels[0]), b"none", file(pixels[2])], object)


PATHS = np.array(["a.png", "b.png", "c.png"])


class TestClasses:
    def test_columns(self, tiny_onnx, pixels, files):
        predictor = Predictor(tiny_onnx, top=2)
        table = predictor({"bytes": files, "path": PATHS, "number": np.arange(3)})
        answers = load(tiny_onnx, device="cpu").predict([pixels[0], pixels[2]])
        assert table.column_names == ["path", "number", "index", "label", "probability", "error"]
        first, none, last = table.to_pylist()
        for row, answer in ((first, answers[0]), (last, answers[1])):
            assert row["label"] == [one.label for one in answer.predictions[:2]]
            assert row["probability"] == pytest.approx([one.probability for one in answer.predictions[:2]], rel=1e-4)
            assert row["error"] is None
        assert (none["path"], none["number"], none["index"], none["label"]) == ("b.png", 1, None, None)
        assert none["error"].startswith("b.png: ")

    def test_types_are_those_of_every_batch(self, tiny_onnx, files):
        predictor = Predictor(tiny_onnx)
        parts = slice(0, 1), slice(1, 2), slice(3, 3)
        tables = [predictor({"bytes": files[part], "path": PATHS[part]}) for part in parts]
        assert len({table.schema for table in tables}) == 1
        assert [table.num_rows for table in tables] == [1, 1, 0]

    def test_vectors(self, tiny_onnx, pixels, files):
        table = Predictor(tiny_onnx, vectors=True)({"bytes": files})
        assert table.column_names == ["logits", "error"]
        wanted = load(tiny_onnx, device="cpu").predict([pixels[0]])[0].logits
        assert table["logits"][0].as_py() == pytest.approx(wanted.tolist(), abs=1e-4)
        assert (table["logits"][1].as_py(), table["error"][1].as_py()[:9]) == (None, "picture 1")


class TestPictures:
    def test_of_pixels(self, tiny_onnx, pixels):
        table = Predictor(tiny_onnx)({"image": pixels})
        assert (table.num_rows, table["error"].null_count) == (3, 3)

    def test_of_pixels_of_different_sizes(self, tiny_onnx, pixels):
        several = np.empty(2, object)
        several[:] = [pixels[0], pixels[1][:20]]
        assert Predictor(tiny_onnx)({"image": several})["error"].null_count == 2

    def test_at_paths(self, tiny_onnx, picture):
        table = Predictor(tiny_onnx)({"path": np.array([str(picture), str(picture.with_name("none.png"))])})
        assert table["path"].to_pylist() == [str(picture), str(picture.with_name("none.png"))]
        assert "No such file" in table["error"][1].as_py()

    def test_other_columns_stay(self, tiny_onnx, pixels):
        others = {"matrix": np.zeros((3, 2, 2)), "when": np.array(["2026-01-01"] * 3, "datetime64[s]")}
        table = Predictor(tiny_onnx)({"image": pixels, **others})
        assert table["matrix"].to_pylist() == np.zeros((3, 2, 2)).tolist()
        assert str(table["when"].type) == "timestamp[s]"
        with pytest.raises(ConfigError, match="The column odd cannot be kept"):
            Predictor(tiny_onnx)({"image": pixels, "odd": np.array([object()] * 3)})

    def test_in_a_column_of_another_name(self, tiny_onnx, pixels):
        table = Predictor(tiny_onnx, column="frame")({"frame": pixels, "second": np.arange(3.0)})
        assert table.column_names == ["second", "index", "label", "probability", "error"]

    @pytest.mark.parametrize("column", [None, "frame"])
    def test_in_no_column(self, tiny_onnx, column):
        with pytest.raises(ConfigError, match="found the columns number"):
            Predictor(tiny_onnx, column=column)({"number": np.arange(3)})


def test_features_are_vectors(any_size_proto, tmp_path, pixels):
    (tmp_path / "features.onnx").write_bytes(any_size_proto.SerializeToString())
    table = Predictor(tmp_path / "features.onnx", image_size=(32, 32))({"image": pixels})
    assert table.schema.field("pooled").type == pa.list_(pa.float32())
    assert [len(vector) for vector in table["pooled"].to_pylist()] == [16] * 3


def test_objects(monkeypatch, pixels):
    found = [((0, 0, 20, 20), 0.9, 1), ((8, 0, 48, 30), 0.7, 2), ((0, 0, 9, 9), 0.1, 0)]
    monkeypatch.setattr("vimdeploy.serving.ray_data.load", lambda *_, **__: Always(found))
    rows = Predictor("detect.onnx", score_threshold=0.5)({"image": pixels}).to_pylist()
    assert len(rows) == 3
    assert [(row["category_id"], row["label"], row["error"]) for row in rows] == [([1, 2], ["dog", "bird"], None)] * 3
    assert rows[0]["score"] == pytest.approx([0.9, 0.7])
    assert [len(box) for box in rows[0]["bbox"]] == [4, 4]


class TestRefused:
    def test_no_model(self, tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read"):
            Predictor(tmp_path / "none.onnx")

    def test_a_file_that_does_not_say_what_it_is_for(self, foreign_onnx):
        with pytest.raises(ConfigError, match="does not say what its outputs mean"):
            Predictor(foreign_onnx)

    @pytest.mark.parametrize("options", [{"top": 0}, {"threads": 0}, {"device": "tpu"}])
    def test_options(self, tiny_onnx, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Predictor(tiny_onnx, **options)


def test_the_class_travels_by_name():
    assert pickle.loads(pickle.dumps(Predictor)) is Predictor


def test_ray_is_not_imported():
    code = "import sys, vimdeploy.serving.ray_data; print('ray' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
