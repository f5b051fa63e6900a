import dataclasses

import numpy as np
import pytest
from onnx import TensorProto

from vimdeploy.bench.opened import open_subject
from vimdeploy.bench.subjects import Subject
from vimdeploy.errors import ConfigError, InputError, ModelFileError


class TestOurs:
    def test_takes_what_its_file_says(self, tiny_onnx, quick):
        opened = open_subject(Subject("tiny", tiny_onnx, batch=2), "ours", quick)
        assert (opened.shape, opened.image_size, opened.precision) == ((2, 3, 32, 32), (32, 32), "fp32")
        assert opened.run(opened.random_input()).shape == (2, 5)

    def test_tells_what_computes_the_operators(self, tiny_onnx, quick, operators):
        settings = type(quick)(device="cpu", operators=operators)
        opened = open_subject(Subject("tiny", tiny_onnx), "ours", settings)
        assert (opened.operators, opened.device) == (operators, "cpu")

    def test_has_no_other_image_size(self, tiny_onnx, quick):
        with pytest.raises(InputError, match="Wanted an image size of 64x64, the file takes 32x32 alone"):
            open_subject(Subject("tiny", tiny_onnx, image_size=(64, 64)), "ours", quick)

    def test_an_engine_wants_a_gpu(self, engine_file, quick):
        with pytest.raises(InputError, match="device must be auto or cuda"):
            open_subject(Subject("tiny", engine_file()), "engine", quick)


class TestForeign:
    def opened(self, path, settings, **subject):
        return open_subject(Subject("foreign", path, **subject), "foreign", settings)

    @pytest.mark.parametrize("shape", [("batch", 3, 32, 48), (2, 3, 32, 48), (None, 3, 32, 48)])
    def test_a_picture_of_fixed_size(self, classifier, quick, shape):
        opened = self.opened(classifier(shape), quick, batch=2)
        assert (opened.shape, opened.image_size, opened.operators) == ((2, 3, 32, 48), (32, 48), "")
        (mean,) = opened.run(opened.random_input())
        np.testing.assert_allclose(mean, opened.random_input().mean(axis=(1, 2, 3)), atol=1e-6)

    def test_channels_last(self, classifier, quick):
        opened = self.opened(classifier(("batch", 32, 48, 3)), quick)
        assert (opened.shape, opened.image_size) == ((1, 32, 48, 3), (32, 48))

    def test_any_size_wants_one(self, classifier, quick):
        path = classifier(("batch", 3, "height", "width"))
        assert self.opened(path, quick, image_size=(64, 32)).shape == (1, 3, 64, 32)
        with pytest.raises(InputError, match="say which with --image-size"):
            self.opened(path, quick)

    def test_any_number_of_channels(self, classifier, quick):
        with pytest.raises(InputError, match="how many channels"):
            self.opened(classifier(("batch", "channels", 32, 32)), quick)

    def test_a_half_precision_input(self, classifier, quick):
        opened = self.opened(classifier(elem_type=TensorProto.FLOAT16), quick)
        assert (opened.precision, opened.random_input().dtype) == ("fp16", np.float16)

    def test_a_fixed_batch(self, classifier, quick):
        with pytest.raises(InputError, match="Wanted a batch of 4, the model takes 1 alone"):
            self.opened(classifier((1, 3, 32, 32)), quick, batch=4)

    def test_two_inputs(self, classifier, quick):
        with pytest.raises(ModelFileError, match=r"one input.*found pixels .*, mask "):
            self.opened(classifier(inputs=("pixels", "mask")), quick)

    def test_no_picture(self, classifier, quick):
        with pytest.raises(ModelFileError, match="four-dimensional pictures of floats; found pixels"):
            self.opened(classifier(("batch", 3, 32, 32), TensorProto.DOUBLE), quick)


class TestEager:
    """``tiny_pth`` as it was trained; its twin ``tiny_onnx`` has the same weights."""

    def settings(self, quick, tiny_json, **changes):
        return dataclasses.replace(quick, variant=str(tiny_json), **changes)

    def test_a_checkpoint_answers_as_its_export(self, tiny_pth, tiny_onnx, tiny_json, quick):
        eager = open_subject(Subject("tiny", tiny_pth, batch=2), "eager", self.settings(quick, tiny_json))
        onnx = open_subject(Subject("tiny", tiny_onnx, batch=2), "ours", quick)
        assert (eager.shape, eager.operators, eager.device, eager.precision) == (onnx.shape, "eager", "cpu", "fp32")
        np.testing.assert_allclose(eager.run(eager.random_input()), onnx.run(onnx.random_input()), atol=1e-5)

    def test_a_checkpoint_takes_any_size_that_fits(self, tiny_pth, tiny_json, quick):
        settings = self.settings(quick, tiny_json)
        assert open_subject(Subject("tiny", tiny_pth, image_size=(24, 40)), "eager", settings).image_size == (24, 40)
        with pytest.raises(ConfigError, match="do not divide an image height of 33"):
            open_subject(Subject("tiny", tiny_pth, image_size=(33, 40)), "eager", settings)

    def test_runs_on_the_cpu_alone(self, tiny_pth, tiny_json, quick):
        with pytest.raises(ConfigError, match="device must be auto or cpu, found 'cuda'"):
            open_subject(Subject("tiny", tiny_pth), "eager", self.settings(quick, tiny_json, device="cuda"))


def test_every_process_has_the_same_input(tiny_onnx, quick):
    inputs = [open_subject(Subject("tiny", tiny_onnx), "ours", quick).random_input() for _ in range(2)]
    assert (inputs[0] == inputs[1]).all()
    assert np.std(inputs[0]) > 0.9
