import numpy as np
import pytest

from vimdeploy.artifact import Artifact
from vimdeploy.graphs.outputs import with_outputs
from vimdeploy.model_info import ModelInfo
from vimdeploy.runtimes.onnxruntime import open_model

INNER = ["layers.1.mixer.BidirectionalSelectiveScan", "layers.0.Add"]


def outputs_of(model, operators="function-body"):
    info = ModelInfo.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    artifact = Artifact(None, model.SerializeToString(), info)
    session = open_model(artifact, device="cpu", operators=operators).session
    names = [output.name for output in session.get_outputs()]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def test_inner_values_come_behind_the_models_own(tiny_proto, operators):
    found = outputs_of(with_outputs(tiny_proto, INNER), operators)
    assert list(found) == ["logits", *INNER]
    assert [found[name].shape for name in INNER] == [(2, 17, 32), (2, 17, 16)]


def test_the_models_own_output_stays_what_it_is(tiny_proto):
    with_inner = outputs_of(with_outputs(tiny_proto, INNER))["logits"]
    np.testing.assert_allclose(with_inner, outputs_of(tiny_proto)["logits"], rtol=1e-4, atol=1e-5)


def test_the_given_model_is_not_changed(tiny_proto):
    before = tiny_proto.SerializeToString()
    with_outputs(tiny_proto, INNER)
    assert tiny_proto.SerializeToString() == before


def test_values_without_a_type_are_given_too(tiny_proto):
    model = with_outputs(tiny_proto, [])
    del model.graph.value_info[:]
    assert list(outputs_of(with_outputs(model, INNER))) == ["logits", *INNER]


def test_a_value_twice_or_of_the_model_itself_is_given_once(tiny_proto):
    model = with_outputs(tiny_proto, [INNER[0], "logits", INNER[0]])
    assert [value.name for value in model.graph.output] == ["logits", INNER[0]]


def test_a_value_that_is_not_there(tiny_proto):
    with pytest.raises(KeyError, match=r"layers\.9\.Add"):
        with_outputs(tiny_proto, ["layers.9.Add"])
