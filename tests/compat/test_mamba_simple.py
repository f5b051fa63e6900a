"""The Mamba block that stands in for ``mamba_ssm``'s."""

import pytest
import torch
import torch.nn.functional as F
from helpers import channel_major

from vimdeploy.compat.mamba_simple import Mamba
from vimdeploy.errors import ConfigError

WIDE, STATES, WIDTH = 20, 4, 4
INNER, RANK = 2 * WIDE, 2  # a rank is a sixteenth of the channels, rounded up


def test_the_state_dict_is_theirs():
    shapes = {name: tuple(value.shape) for name, value in Mamba(WIDE, STATES, WIDTH, bias=True).state_dict().items()}
    assert shapes == {
        "A_log": (INNER, STATES),
        "D": (INNER,),
        "in_proj.weight": (2 * INNER, WIDE),
        "in_proj.bias": (2 * INNER,),
        "conv1d.weight": (INNER, 1, WIDTH),
        "conv1d.bias": (INNER,),
        "x_proj.weight": (RANK + 2 * STATES, INNER),
        "dt_proj.weight": (INNER, RANK),
        "dt_proj.bias": (INNER,),
        "out_proj.weight": (WIDE, INNER),
        "out_proj.bias": (WIDE,),
    }


@pytest.mark.parametrize(
    "options", [{}, {"bias": True, "conv_bias": False, "expand": 1, "dt_rank": 3, "dt_init": "constant"}]
)
def test_answers(options):
    torch.manual_seed(6)
    mamba = Mamba(WIDE, STATES, WIDTH, **options)
    with torch.no_grad():
        mamba.D.normal_()
    hidden = torch.randn(2, 7, WIDE)
    xz = F.linear(hidden, mamba.in_proj.weight, mamba.in_proj.bias).transpose(1, 2)
    wanted = channel_major.mamba_inner_fn(
        xz,
        mamba.conv1d.weight,
        mamba.conv1d.bias,
        mamba.x_proj.weight,
        mamba.dt_proj.weight,
        mamba.out_proj.weight,
        mamba.out_proj.bias,
        -torch.exp(mamba.A_log),
        D=mamba.D,
        delta_bias=mamba.dt_proj.bias,
    )
    torch.testing.assert_close(mamba(hidden), wanted, rtol=1e-5, atol=1e-5)


def test_step_sizes_begin_in_their_range():
    torch.manual_seed(7)
    mamba = Mamba(64, dt_min=0.01, dt_max=0.05)
    steps = F.softplus(mamba.dt_proj.bias)
    assert 0.0099 < steps.min() < steps.max() < 0.0501
    torch.testing.assert_close(torch.exp(mamba.A_log[0]), torch.arange(1.0, 17))


def test_types_and_devices():
    mamba = Mamba(WIDE, device="cpu", dtype=torch.bfloat16)
    assert {name for name, value in mamba.named_parameters() if value.dtype == torch.float32} == {"A_log", "D"}


@pytest.mark.parametrize(
    ("keywords", "whose"),
    [
        ({"bimamba_type": "v2", "if_divide_out": True}, "that of Vision Mamba (hustvl/Vim)"),
        ({"bimamba": True}, "that of VideoMamba (OpenGVLab/VideoMamba)"),
        ({"bimamba_type": "v3", "nslices": 64}, "that of SegMamba (ge-xing/SegMamba)"),
        ({"scan_order": 1}, "that of a fork of mamba_ssm"),
    ],
)
def test_keywords_of_forks(keywords, whose):
    with pytest.raises(ConfigError) as caught:
        Mamba(WIDE, **keywords)
    named = ", ".join(f"{keyword}={value!r}" for keyword, value in keywords.items())
    assert str(caught.value) == (
        f"The Mamba that the model builds with {named} is {whose}, and vimdeploy stands in for the published one only; "
        "put the folder of the fork's mamba_ssm on the Python path before the import."
    )


def test_generation_is_refused():
    with pytest.raises(ConfigError, match="inference_params"):
        Mamba(WIDE)(torch.zeros(1, 2, WIDE), inference_params=object())


def test_another_start_is_refused():
    with pytest.raises(ConfigError, match="'random' or 'constant', found 'zeros'"):
        Mamba(WIDE, dt_init="zeros")
