import numpy as np
import onnx
import pytest
from helpers.seeded_faults import changed_weight, dropped_d

from vimdeploy.models.config import VimConfig
from vimdeploy.models.vim import vim_with_random_weights
from vimdeploy.parity.weights import check_weights


@pytest.fixture
def tensors(eager):
    return {name: tensor.numpy() for name, tensor in eager.model.state_dict().items()}


def test_the_weights_of_an_export_are_all_found_and_equal(eager, four_blocks, tensors):
    check = check_weights(four_blocks, eager.info.config, tensors)
    assert (check.compared, check.unknown, check.differences) == (4 + 4 * 10 + 1 + 2, (), ())


def test_rounded_weights_are_equal_in_their_type(eager, half, tensors):
    check = check_weights(half[0], eager.info.config, tensors)
    assert (check.unknown, check.differences) == ((), ())


def test_other_weights_all_differ(eager, four_blocks):
    other = vim_with_random_weights(eager.info.config, seed=1).state_dict()
    differences = check_weights(four_blocks, eager.info.config, {n: t.numpy() for n, t in other.items()}).differences
    assert {d.stage for d in differences} >= {"patch_embed", "pos_embed", "Block 3, conv1d", "Block 0, scan", "head"}


@pytest.mark.parametrize("factor", [1.01, np.nan])
def test_one_that_differs_is_named(eager, half, tensors, factor):
    """One per cent is four times what float16 rounds by, and less than twice of bfloat16."""
    broken = changed_weight(half[0], 2, factor=factor)
    (difference,) = check_weights(broken, eager.info.config, tensors).differences
    assert (difference.stage, difference.index) == ("Block 2, in_proj", (5, 7))
    assert (difference.differing, difference.elements) == (1, 32 * 128)
    assert difference.wanted == pytest.approx(tensors["layers.2.mixer.in_proj.weight"][7, 5], rel=2**-8)


def test_weights_that_blocks_share_count_for_each(eager, four_blocks, tensors):
    (difference,) = check_weights(dropped_d(four_blocks, 1), eager.info.config, tensors).differences
    assert (difference.stage, difference.wanted, difference.found) == ("Block 1, scan", 1, 0)


def test_a_bias_that_the_file_left_out_has_to_be_zero(eager, four_blocks, tensors):
    tensors["head.bias"] = np.full_like(tensors["head.bias"], 0.5)
    (difference,) = check_weights(four_blocks, eager.info.config, tensors).differences
    assert (difference.stage, difference.name, difference.found) == ("head", "head.Gemm.bias", 0)


def test_what_is_stored_otherwise_is_listed(eager, four_blocks, tensors):
    four_blocks = onnx.ModelProto.FromString(four_blocks.SerializeToString())
    next(node for node in four_blocks.graph.node if node.name == "head.Gemm").name = "renamed"
    assert check_weights(four_blocks, eager.info.config, tensors).unknown == (
        "head.Gemm, input 1",
        "head.Gemm, input 2",
    )


def test_weights_of_another_width_differ(four_blocks, eager):
    wide = VimConfig(**{**vars(eager.info.config), "dim": 64, "dt_rank": 0})
    other = {name: tensor.numpy() for name, tensor in vim_with_random_weights(wide, seed=0).state_dict().items()}
    assert check_weights(four_blocks, wide, other).differences[0].stage == "patch_embed"
