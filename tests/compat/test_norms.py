"""The norms that stand in for Triton's, by the signatures of both releases of ``mamba_ssm``."""

import pytest
import torch
from helpers import channel_major

from vimdeploy.compat.norms import RMSNorm, layer_norm_fn, layer_norm_fwd, layer_norm_fwd_before, rms_norm_fn
from vimdeploy.errors import ConfigError

CHANNELS, EPS = 6, 1e-3
NORMS = {
    "rms": (rms_norm_fn, channel_major.rms_norm_fn),
    "layer": (layer_norm_fn, channel_major.layer_norm_fn),
}


@pytest.fixture
def operands():
    torch.manual_seed(4)
    return torch.randn(2, 3, CHANNELS), torch.randn(CHANNELS), torch.randn(CHANNELS)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("residual_type", [None, torch.float32, torch.float16])
@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize("in_float32", [False, True])
def test_answers_and_types(operands, norm, dtype, residual_type, prenorm, in_float32):
    x, weight, bias = operands
    ours, plain = NORMS[norm]
    residual = None if residual_type is None else torch.randn_like(x).to(residual_type)
    options = {"residual": residual, "prenorm": prenorm, "residual_in_fp32": in_float32, "eps": EPS}
    found, wanted = ours(x.to(dtype), weight, bias, **options), plain(x.to(dtype), weight, bias, **options)
    for one, other in zip(found, wanted, strict=True) if prenorm else [(found, wanted)]:
        assert one.dtype == other.dtype
        digits = 2 * torch.finfo(one.dtype).eps * 4
        torch.testing.assert_close(one, other, rtol=digits, atol=digits)


class TestOrderOfArguments:
    def test_rms_norm_before_release_2(self, operands):
        y, total = rms_norm_fn(*operands, None, True, True, EPS)
        assert torch.equal(y, rms_norm_fn(*operands, eps=EPS))
        assert torch.equal(total, operands[0])

    def test_layer_norm_before_release_2(self, operands):
        y, _ = layer_norm_fn(*operands, None, EPS, True, True)
        assert torch.equal(y, layer_norm_fn(*operands, eps=EPS))
        assert torch.equal(layer_norm_fn(*operands, None, EPS, False, False, True), rms_norm_fn(*operands, eps=EPS))

    def test_since_release_2(self, operands):
        for norm in (rms_norm_fn, layer_norm_fn):
            y, _ = norm(*operands, None, None, None, None, EPS, 0.0, None, True, True)
            assert torch.equal(y, norm(*operands, eps=EPS))

    def test_too_many(self, operands):
        with pytest.raises(TypeError, match="no release of mamba_ssm takes so many"):
            rms_norm_fn(*operands, None, True, True, EPS, 1)

    def test_an_unknown_name(self, operands):
        with pytest.raises(TypeError, match="rms_norm_fn has no argument 'scale'"):
            rms_norm_fn(*operands, scale=2)


def test_what_vision_models_do_not_use_is_refused(operands):
    with pytest.raises(ConfigError) as caught:
        rms_norm_fn(*operands, x1=operands[0], dropout_p=0.5)
    assert str(caught.value) == "The model calls rms_norm_fn with x1 and dropout_p, which vimdeploy does not compute."
    with pytest.raises(ConfigError, match="dropout_p"):
        RMSNorm(CHANNELS, dropout_p=0.1)


class TestModule:
    def test_the_state_dict_is_theirs(self):
        norm = RMSNorm(CHANNELS, eps=EPS, device="cpu", dtype=torch.float16)
        assert {name: tuple(value.shape) for name, value in norm.state_dict().items()} == {"weight": (CHANNELS,)}
        assert norm.weight.dtype == torch.float16
        assert norm.bias is None

    def test_answers(self, operands):
        x, weight, _ = operands
        norm = RMSNorm(CHANNELS, eps=EPS)
        norm.load_state_dict({"weight": weight})
        y, total = norm(x, x, prenorm=True, residual_in_fp32=True)
        torch.testing.assert_close(y, channel_major.rms_norm(2 * x, weight, EPS))
        assert torch.equal(total, 2 * x)


class TestInside:
    def test_eight_results_and_four_before(self, operands):
        x, weight, bias = operands
        rows = x.flatten(0, 1)
        y, _, _, _, total, *rest = layer_norm_fwd(rows, weight, bias, EPS, rows, out_dtype=torch.float16)
        assert len(rest) == 3
        assert y.dtype == torch.float16
        assert torch.equal(total, 2 * rows)
        before = layer_norm_fwd_before(rows, weight, None, EPS, is_rms_norm=True)
        assert len(before) == 4
        torch.testing.assert_close(before[0], channel_major.rms_norm(rows, weight, EPS))
