import numpy as np
import pytest

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.inner_values import inner_values
from vimdeploy.runtimes.onnxruntime import open_model


def batch(count, size=32):
    return {"images": np.random.default_rng(count).standard_normal((count, 3, size, size), dtype=np.float32)}


def test_batch_after_batch(tiny_artifact):
    scan = "layers.1.mixer.BidirectionalSelectiveScan"
    found = list(inner_values(tiny_artifact, [scan, "layers.0.Add"], [batch(2), batch(1)]))
    assert [values[scan].shape for values in found] == [(2, 17, 32), (1, 17, 32)]
    assert [values["layers.0.Add"].shape for values in found] == [(2, 17, 16), (1, 17, 16)]


def test_the_models_own_input_and_output(tiny_artifact):
    given = batch(2)
    [values] = inner_values(tiny_artifact, ["images", "logits"], [given])
    session = open_model(tiny_artifact, device="cpu").session
    np.testing.assert_array_equal(values["images"], given["images"])
    np.testing.assert_array_equal(values["logits"], session.run(None, given)[0])


def test_the_artifact_stays_as_it_is(tiny_artifact):
    before = tiny_artifact.model.SerializeToString(deterministic=True)
    list(inner_values(tiny_artifact, ["layers.0.Add"], [batch(1)]))
    assert tiny_artifact.model.SerializeToString(deterministic=True) == before


def test_a_batch_that_the_runtime_refuses(tiny_artifact):
    with pytest.raises(ExecutionError, match=r"ONNX Runtime failed on images \(3, 3, 16, 16\): "):
        list(inner_values(tiny_artifact, ["layers.0.Add"], [batch(3, size=16)]))
