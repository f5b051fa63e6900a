import dataclasses

import onnx
import pytest

from vimdeploy.artifact import ModelInfo, is_ours, operator_counts, read_onnx
from vimdeploy.errors import ConfigError, ModelFileError
from vimdeploy.models.config import Recipe, VimConfig

FULL = ModelInfo(
    variant="mine",
    config=VimConfig(image_size=(32, 48), in_channels=1, dim=40, num_classes=3, class_token="first", norm_eps=1e-6),
    recipe=Recipe(crop=0.9, interpolation="bilinear", mean=(0.1,), std=(0.7,)),
    labels=("tench", "Käfer", "a, b"),
    weights="checkpoint model_ema",
    checkpoint_sha256="abc",
    versions={"torch": "2.13.0"},
    kept_in_float32={"layers.1.mixer.out_proj.MatMul": "a reason, with „quotes“"},
)
"""No field has its default where another value is possible."""


class TestMetadata:
    def test_comes_back_whole(self):
        assert ModelInfo.from_metadata(FULL.to_metadata()) == FULL

    def test_defaults_come_back_too(self):
        info = ModelInfo("vim_tiny_patch16_224", VimConfig())
        assert ModelInfo.from_metadata(info.to_metadata()) == info

    def test_is_text_under_our_prefix(self):
        assert all(
            name.startswith("vimdeploy.") and isinstance(value, str) for name, value in FULL.to_metadata().items()
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("variant", "mine"),
            ("image_size", "32x48"),
            ("crop", "0.9"),
            ("interpolation", "bilinear"),
            ("mean", "[0.1]"),
            ("std", "[0.7]"),
            ("labels", '["tench", "Käfer", "a, b"]'),
            ("precision", "fp32"),
            ("task", "classification"),
            ("operators_version", "1"),
            ("checkpoint_sha256", "abc"),
        ],
    )
    def test_can_be_read_by_other_programs(self, name, value):
        assert FULL.to_metadata()[f"vimdeploy.{name}"] == value

    def test_of_other_programs_is_passed_over(self):
        assert ModelInfo.from_metadata(FULL.to_metadata() | {"producer.note": "x"}) == FULL

    def test_is_wanted(self):
        with pytest.raises(ModelFileError, match=r"no vimdeploy\.\* metadata, so vimdeploy did not make it"):
            ModelInfo.from_metadata({"producer.note": "x"})

    @pytest.mark.parametrize(("name", "message"), [("format", "has format 2"), ("operators_version", "of version 2")])
    def test_of_a_newer_vimdeploy(self, name, message):
        with pytest.raises(ModelFileError, match=f"{message}.*export it again or update vimdeploy"):
            ModelInfo.from_metadata(FULL.to_metadata() | {f"vimdeploy.{name}": "2"})

    def test_of_an_earlier_vimdeploy(self):
        metadata = FULL.to_metadata()
        del metadata["vimdeploy.kept_in_float32"]
        assert ModelInfo.from_metadata(metadata) == dataclasses.replace(FULL, kept_in_float32={})

    @pytest.mark.parametrize("name", ["variant", "config", "crop", "mean", "labels", "weights", "versions"])
    def test_that_lacks_an_entry(self, name):
        metadata = FULL.to_metadata()
        del metadata[f"vimdeploy.{name}"]
        with pytest.raises(ModelFileError, match="metadata is damaged"):
            ModelInfo.from_metadata(metadata)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("config", "{"),
            ("config", '{"no_such_field": 1}'),
            ("config", '{"depth": 0}'),
            ("crop", "all"),
            ("crop", "0"),
            ("mean", "5"),
            ("mean", "[0.5, 0.5, 0.5]"),
            ("labels", '["only one"]'),
            ("precision", "fp8"),
            ("kept_in_float32", "[1]"),
        ],
    )
    def test_that_is_damaged(self, name, value):
        with pytest.raises(ModelFileError, match="metadata is damaged"):
            ModelInfo.from_metadata(FULL.to_metadata() | {f"vimdeploy.{name}": value})


class TestModelInfo:
    def test_wants_a_label_a_class(self):
        with pytest.raises(ConfigError, match="Wanted 3 labels, one a class; found 2"):
            dataclasses.replace(FULL, labels=("a", "b"))

    def test_wants_a_mean_a_channel(self):
        with pytest.raises(ConfigError, match="mean has 3 values, the model 1 channels"):
            dataclasses.replace(FULL, recipe=Recipe())

    def test_a_class_has_its_label(self):
        assert FULL.label(1) == "Käfer"

    def test_a_class_that_nobody_named_has_its_number(self):
        assert dataclasses.replace(FULL, labels=()).label(1) == "class 1"

    @pytest.mark.parametrize(("weights", "seed"), [("random seed 7", 7), ("random seed -1", -1), ("checkpoint", None)])
    def test_the_seed_of_random_weights(self, weights, seed):
        assert dataclasses.replace(FULL, weights=weights).random_seed == seed


class TestReadOnnx:
    def test_a_file_of_ours(self, tiny_onnx, tiny):
        model, info = read_onnx(tiny_onnx)
        assert (info.variant, info.config, info.labels) == ("tiny", tiny.config, tiny.labels)
        assert model.graph.input[0].name == "images"

    def test_counts_its_operators(self, tiny_proto):
        assert operator_counts(tiny_proto) == {"BidirectionalConv1d": 2, "BidirectionalSelectiveScan": 2}

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ModelFileError, match=r"none\.onnx cannot be read: No such file"):
            read_onnx(tmp_path / "none.onnx")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read: Is a directory"):
            read_onnx(tmp_path)

    @pytest.mark.parametrize("data", [b"", b"hello, this is text\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"], ids=repr)
    def test_something_else(self, tmp_path, data):
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=r"model\.onnx"):
            read_onnx(path)

    @pytest.mark.parametrize("part", [0.001, 0.3, 0.7, 0.9, 0.999])
    def test_a_truncated_file(self, tmp_path, tiny_onnx, part):
        path = tmp_path / "model.onnx"
        data = tiny_onnx.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ModelFileError, match=r"model\.onnx"):
            read_onnx(path)

    def test_an_onnx_file_that_is_not_ours(self, tmp_path, foreign_onnx):
        with pytest.raises(ModelFileError, match=r"foreign\.onnx cannot be used: it has no vimdeploy\.\* metadata"):
            read_onnx(foreign_onnx)

    def test_a_file_that_points_at_other_files(self, tmp_path, tiny_proto):
        model = onnx.ModelProto()
        model.CopyFrom(tiny_proto)
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError, match="keeps tensors in other files"):
            read_onnx(path)


def test_our_files_are_known_from_others(tiny_onnx, foreign_onnx, tmp_path):
    assert is_ours(tiny_onnx)
    assert not is_ours(foreign_onnx)
    with pytest.raises(ModelFileError, match=r"none\.onnx cannot be read"):
        is_ours(tmp_path / "none.onnx")
