import numpy as np
import pytest

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.inner_values import inner_values
from vimdeploy.runtimes.onnxruntime import open_model


def batch(count, size=32):
    return np.random.default_rng(count).standard_normal((count, 3, size, size), dtype=np.float32)


def test_batch_after_batch(tiny_proto):
    scan = "layers.1.mixer.BidirectionalSelectiveScan"
    found = list(inner_values(tiny_proto, [scan, "layers.0.Add"], [batch(2), batch(1)]))
    assert [values[scan].shape for values in found] == [(2, 17, 32), (1, 17, 32)]
    assert [values["layers.0.Add"].shape for values in found] == [(2, 17, 16), (1, 17, 16)]


def test_the_models_own_input_and_output(tiny_proto):
    images = batch(2)
    [values] = inner_values(tiny_proto, ["images", "logits"], [images])
    session, _, _ = open_model(tiny_proto.SerializeToString(), device="cpu")
    np.testing.assert_array_equal(values["images"], images)
    np.testing.assert_array_equal(values["logits"], session.run(None, {"images": images})[0])


def test_a_batch_that_the_runtime_refuses(tiny_proto):
    with pytest.raises(ExecutionError, match="ONNX Runtime failed on a batch of 3: "):
        list(inner_values(tiny_proto, ["layers.0.Add"], [batch(3, size=16)]))
