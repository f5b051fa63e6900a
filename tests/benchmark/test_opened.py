import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import detections
from onnx import TensorProto

from vimdeploy.benchmark.opened import image_size_of, open_session, precision_of, random_arrays
from vimdeploy.benchmark.sources import Subject
from vimdeploy.errors import CheckpointError, ConfigError, InputError
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.models.variant import Variant
from vimdeploy.networks import AnySize, network_of_variant
from vimdeploy.runtimes.eager import EagerSession


def shapes(info, *arguments):
    return {name: array.shape for name, array in random_arrays(info, *arguments).items()}


class TestOurs:
    def test_takes_what_its_file_says(self, tiny_onnx, quick):
        session = open_session(Subject("tiny", tiny_onnx), quick)
        assert (image_size_of(session.info), precision_of(session)) == ((32, 32), "fp32")
        assert session.run(random_arrays(session.info, 2))["logits"].shape == (2, 5)

    def test_tells_what_computes_the_operators(self, tiny_onnx, quick, operators):
        session = open_session(Subject("tiny", tiny_onnx), dataclasses.replace(quick, operators=operators))
        assert (session.operators, session.device) == (operators.replace("-", " "), "cpu")

    def test_has_no_other_image_size(self, tiny_info):
        with pytest.raises(InputError, match="Wanted an image height of 64, the file takes 32 alone"):
            random_arrays(tiny_info, 1, (64, 64))

    def test_an_engine_wants_a_gpu(self, engine_file, quick):
        with pytest.raises(InputError, match="device must be auto or cuda"):
            open_session(Subject("tiny", engine_file()), quick)

    def test_a_dynamic_size_can_be_chosen(self, tiny):
        info = network_of_variant(tiny, 0, image_size=AnySize()).info
        assert shapes(info, 2, (24, 40)) == {"images": (2, 3, 24, 40)}
        assert (image_size_of(info), image_size_of(info, (24, 40))) == ((32, 32), (24, 40))
        with pytest.raises(InputError, match="Wanted an image width of 33"):
            random_arrays(info, 1, (24, 33))

    def test_features(self, tiny, quick):
        session = EagerSession(network_of_variant(tiny, 0, "features"))
        found = session.run(random_arrays(session.info, 2))
        assert {name: array.shape for name, array in found.items()} == {"map": (2, 16, 4, 4), "pooled": (2, 16)}

    def test_a_detector_is_asked_for_all_that_there_may_be(self):
        arrays = random_arrays(detections.INFO, 2)
        assert arrays["images"].shape == (2, 3, 64, 96)
        assert arrays["image_sizes"].tolist() == [[64, 96]] * 2
        assert (arrays["score_threshold"].tolist(), arrays["max_detections"].tolist()) == ([0, 0], [100, 100])


def test_pictures_of_bytes():
    arrays = random_arrays(detections.INFO.with_bytes(), 2)
    assert (arrays["images"].shape, arrays["images"].dtype) == ((2, 64, 96, 3), np.uint8)
    assert (arrays["images"].min(), arrays["images"].max()) == (0, 255)
    assert arrays["image_sizes"].tolist() == [[64, 96]] * 2


class TestForeign:
    def opened(self, path, quick):
        return open_session(Subject("foreign", path), quick)

    @pytest.mark.parametrize("shape", [("batch", 3, 32, 48), (2, 3, 32, 48), (None, 3, 32, 48)])
    def test_a_picture_of_fixed_size(self, classifier, quick, shape):
        session = self.opened(classifier(shape), quick)
        arrays = random_arrays(session.info, 2)
        assert (arrays["pixels"].shape, image_size_of(session.info)) == ((2, 3, 32, 48), (32, 48))
        assert (session.operators, precision_of(session)) == ("", "fp32")
        np.testing.assert_allclose(session.run(arrays)["mean"], arrays["pixels"].mean(axis=(1, 2, 3)), atol=1e-6)

    def test_channels_last(self, classifier, quick):
        info = self.opened(classifier(("batch", 32, 48, 3)), quick).info
        assert (shapes(info, 1), image_size_of(info)) == ({"pixels": (1, 32, 48, 3)}, (32, 48))

    def test_channels_last_of_any_size(self, classifier, quick):
        info = self.opened(classifier(("batch", "height", "width", 3)), quick).info
        assert shapes(info, 1, (64, 32)) == {"pixels": (1, 64, 32, 3)}

    def test_any_size_wants_one(self, classifier, quick):
        info = self.opened(classifier(("batch", 3, "height", "width")), quick).info
        assert shapes(info, 1, (64, 32)) == {"pixels": (1, 3, 64, 32)}
        with pytest.raises(InputError, match="say which with --image-size"):
            random_arrays(info, 1)

    def test_any_number_of_channels(self, classifier, quick):
        with pytest.raises(InputError, match="does not say how large its channels is"):
            random_arrays(self.opened(classifier(("batch", "channels", 32, 32)), quick).info, 1)

    def test_a_half_precision_input(self, classifier, quick):
        session = self.opened(classifier(elem_type=TensorProto.FLOAT16), quick)
        arrays = random_arrays(session.info, 1)
        assert (precision_of(session), arrays["pixels"].dtype) == ("fp16", np.float16)
        assert session.run(arrays)["mean"].dtype == np.float16

    def test_a_fixed_batch(self, classifier, quick):
        with pytest.raises(InputError, match="Wanted a batch of 4, the model takes 1 alone"):
            random_arrays(self.opened(classifier((1, 3, 32, 32)), quick).info, 4)

    def test_several_inputs(self, classifier, quick):
        others = {"ids": (("sentences", 7), TensorProto.INT64), "table": ((5, 2), TensorProto.DOUBLE)}
        session = self.opened(classifier(others=others), quick)
        arrays = random_arrays(session.info, 2)
        found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        assert found == {
            "pixels": ((2, 3, 32, 32), "float32"),
            "ids": ((2, 7), "int64"),
            "table": ((5, 2), "float64"),
        }
        assert not arrays["ids"].any()
        assert session.run(arrays)["mean"].shape == (2,)

    def test_several_inputs_have_no_image_size(self, classifier, quick):
        info = self.opened(classifier(others={"mask": (("batch",), TensorProto.BOOL)}), quick).info
        assert image_size_of(info) is None
        with pytest.raises(InputError, match="no pictures, so there is no image size to choose"):
            random_arrays(info, 1, (32, 32))

    def test_an_input_that_is_no_number(self):
        info = ModelInfo("texts", (TensorSpec("texts", ("batch",), "string"),), ())
        with pytest.raises(InputError, match=r"floats, integers or booleans; found texts \(batch\) of string"):
            random_arrays(info, 1)


def test_a_free_dimension_whose_range_is_known():
    spec = TensorSpec("tokens", ("batch", "length"))
    assert shapes(ModelInfo("m", (spec,), (), sizes={"length": SizeRange(2, 9, typical=5)}), 3) == {"tokens": (3, 5)}
    assert shapes(ModelInfo("m", (spec,), (), sizes={"length": SizeRange(2, 9)}), 3) == {"tokens": (3, 2)}


class TestEager:
    """``tiny_pth`` as it was trained; its twin ``tiny_onnx`` has the same weights."""

    @pytest.fixture
    def settings(self, quick, tiny_json):
        return dataclasses.replace(quick, variant=str(tiny_json))

    def test_a_checkpoint_answers_as_its_export(self, tiny_pth, tiny_onnx, settings):
        eager = open_session(Subject("tiny", tiny_pth), settings)
        onnx = open_session(Subject("tiny", tiny_onnx), settings)
        arrays = random_arrays(eager.info, 2)
        assert (eager.operators, eager.device, precision_of(eager)) == ("eager", "cpu", "fp32")
        np.testing.assert_allclose(eager.run(arrays)["logits"], onnx.run(arrays)["logits"], atol=1e-5)

    def test_a_checkpoint_takes_any_size_that_fits(self, tiny_pth, settings):
        session = open_session(Subject("tiny", tiny_pth, image_size=(24, 40)), settings)
        assert image_size_of(session.info) == (24, 40)
        with pytest.raises(ConfigError, match="do not divide an image height of 33"):
            open_session(Subject("tiny", tiny_pth, image_size=(33, 40)), settings)

    def test_a_checkpoint_of_another_task(self, tiny_pth, settings):
        session = open_session(Subject("tiny", tiny_pth), dataclasses.replace(settings, task="features"))
        assert [spec.name for spec in session.info.outputs] == ["map", "pooled"]

    def test_finds_the_released_variant(self, monkeypatch, tiny, tiny_pth, quick):
        known = {"a": Variant("a", "vim", tiny.config.replace(stride=4)), "tiny": tiny}
        monkeypatch.setattr("vimdeploy.models.vim.keys.VARIANTS", known)
        assert open_session(Subject("tiny", tiny_pth), quick).info.name == "tiny"

    def test_a_checkpoint_of_another_variant(self, tiny_pth, quick):
        settings = dataclasses.replace(quick, variant="vim_tiny_patch16_224")
        with pytest.raises(CheckpointError, match="is not a checkpoint of vim_tiny_patch16_224"):
            open_session(Subject("tiny", tiny_pth), settings)

    def test_a_checkpoint_that_is_no_vim(self, tmp_path, quick):
        torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="holds no Vim of two directions"):
            open_session(Subject("a", tmp_path / "a.pth"), quick)

    def test_a_file_has_random_weights_whatever_it_was_made_from(self, tiny_onnx, tiny_info, tiny_model, quick):
        model = dataclasses.replace(tiny_info, origin=None)
        session = open_session(Subject("tiny", tiny_onnx, model=model), quick)
        assert torch.equal(session.module.head.weight, tiny_model.head.weight)

    def test_runs_on_the_cpu_alone(self, tiny_pth, settings):
        with pytest.raises(ConfigError, match="device must be auto or cpu, found 'cuda'"):
            open_session(Subject("tiny", tiny_pth), dataclasses.replace(settings, device="cuda"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runtime"), [("tiny_onnx", "onnxruntime"), ("tiny_onnx", "openvino"), ("tiny_pth", "eager")]
)
def test_loading_imports_nothing_more(request, tiny_json, name, runtime):
    """What the first import of a package takes is not the session's time."""
    openvino = ""
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
        openvino = "fp32"
    code = f"""
import sys
from pathlib import Path
from vimdeploy.benchmark.opened import import_runtime, open_session
from vimdeploy.benchmark.sources import Settings, Subject
subject = Subject("tiny", Path({str(request.getfixturevalue(name))!r}), openvino={openvino!r})
assert subject.runtime == {runtime!r}
import_runtime(subject)
before = set(sys.modules)
open_session(subject, Settings(device="cpu", variant={str(tiny_json)!r}))
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("torch.")))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_every_process_has_the_same_input(tiny_info):
    first, second = (random_arrays(tiny_info, 1)["images"] for _ in range(2))
    assert (first == second).all()
    assert np.std(first) > 0.9
