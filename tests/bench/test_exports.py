from collections import Counter

import numpy as np
import onnxruntime as ort
import pytest
import torch

from vimdeploy.artifact import ModelInfo, is_ours
from vimdeploy.bench.exports import onnx_from_source
from vimdeploy.bench.sources import BASELINES, Source
from vimdeploy.errors import ConfigError
from vimdeploy.models.deit import DEIT_VARIANTS, Attention, DeiT, DeiTConfig, FusedAttention

SMALL = DeiTConfig(dim=24, heads=3, image_size=(32, 48), depth=2, num_classes=7)


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEIT_VARIANTS, "deit_tiny_patch16_224", SMALL)
        yield


@pytest.fixture(scope="module")
def both(small):
    return [onnx_from_source(Source("deit", model="deit_tiny", fused_attention=fused), None) for fused in (0, 1)]


def logits(proto, images):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


class TestBaseline:
    def test_both_forms_answer_as_pytorch_does(self, both):
        images = np.random.default_rng(0).standard_normal((2, 3, 32, 48), dtype=np.float32)
        torch.manual_seed(0)
        with torch.inference_mode():
            expected = DeiT(SMALL).eval()(torch.from_numpy(images)).numpy()
        for proto in both:
            np.testing.assert_allclose(logits(proto, images), expected, atol=1e-5)  # a few ulp through 2 blocks

    def test_one_node_stands_for_the_attention(self, both):
        plain, fused = (Counter(node.op_type for node in proto.graph.node) for proto in both)
        assert (plain["Softmax"], plain["MultiHeadAttention"]) == (SMALL.depth, 0)
        assert (fused["Softmax"], fused["MultiHeadAttention"]) == (0, SMALL.depth)

    def test_nothing_is_computed_from_weights_alone(self, both):
        """The three parts of the fused form's projection are constants."""
        fused = Counter(node.op_type for node in both[1].graph.node)
        assert fused["MatMul"] + fused["Gemm"] == SMALL.depth * 6 + 1
        assert fused["Gather"] + fused["Slice"] <= 1  # the class token

    def test_is_no_file_of_ours(self, both, tmp_path):
        (tmp_path / "deit.onnx").write_bytes(both[0].SerializeToString())
        assert not is_ours(tmp_path / "deit.onnx")

    def test_has_the_size_that_was_asked_for(self, small):
        proto = onnx_from_source(Source("deit", model="deit_tiny"), (16, 64))
        assert logits(proto, np.zeros((1, 3, 16, 64), np.float32)).shape == (1, 7)

    def test_a_size_that_does_not_fit(self, small):
        with pytest.raises(ConfigError, match="Patches of 16 pixels do not divide an image of 40x32"):
            onnx_from_source(Source("deit", model="deit_tiny"), (40, 32))


def test_fused_attention_is_the_same_in_pytorch():
    torch.manual_seed(0)
    x, plain, fused = torch.randn(1, 5, 24), Attention(SMALL), FusedAttention(SMALL)
    fused.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fused(x), plain(x))


def test_every_baseline_is_a_model():
    assert [f"{name}_patch16_224" for name in BASELINES] == list(DEIT_VARIANTS)


class TestVariant:
    def test_is_a_file_of_ours(self, tiny_json):
        proto = onnx_from_source(Source("tiny", model=str(tiny_json)), (24, 40))
        info = ModelInfo.from_metadata({entry.key: entry.value for entry in proto.metadata_props})
        assert (info.config.image_size, info.weights, info.labels[0]) == ((24, 40), "random seed 0", "ant")

    def test_has_its_own_size(self, tiny_json):
        proto = onnx_from_source(Source("tiny", model=str(tiny_json)), None)
        assert [size.dim_value for size in proto.graph.input[0].type.tensor_type.shape.dim][1:] == [3, 32, 32]

    def test_a_name_that_is_none(self):
        with pytest.raises(ConfigError, match=r"There is no variant 'vim_tinny'\. Did you mean"):
            onnx_from_source(Source("vim_tinny", model="vim_tinny"), None)
