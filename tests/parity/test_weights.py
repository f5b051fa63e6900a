import numpy as np
import onnx
import pytest
from helpers.precision import lowered
from helpers.seeded_faults import changed_constant, changed_weight, dropped_d

from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.networks import network_of_variant, stages_of
from vimdeploy.parity.weights import check_weights
from vimdeploy.runtimes.eager import EagerSession


@pytest.fixture
def tensors(eager):
    return eager.stored_tensors()


@pytest.fixture
def stages(eager):
    return stages_of(eager.info)


def other_tensors(info, seed=0, **changes):
    """Those of another network of the same kind."""
    variant = Variant("other", "vim", VimConfig(**info.config | changes))
    return EagerSession(network_of_variant(variant, seed)).stored_tensors()


def test_the_weights_of_an_export_are_all_found_and_equal(four_blocks, stages, tensors):
    check = check_weights(four_blocks, stages, tensors)
    assert (check.compared, check.unknown, check.differences) == (4 + 4 * 10 + 1 + 2, (), ())


def test_rounded_weights_are_equal_in_their_type(half, stages, tensors):
    check = check_weights(half, stages, tensors)
    assert (check.unknown, check.differences) == ((), ())


def test_other_weights_all_differ(eager, four_blocks, stages):
    differences = check_weights(four_blocks, stages, other_tensors(eager.info, seed=1)).differences
    assert {d.stage for d in differences} >= {"patch_embed", "pos_embed", "Block 3, conv1d", "Block 0, scan", "head"}


@pytest.mark.parametrize("factor", [1.01, np.nan])
def test_one_that_differs_is_named(half, stages, tensors, factor):
    """One per cent is four times what float16 rounds by, and less than twice of bfloat16."""
    broken = changed_weight(half, 2, factor=factor)
    (difference,) = check_weights(broken, stages, tensors).differences
    assert (difference.stage, difference.index) == ("Block 2, in_proj", (5, 7))
    assert (difference.differing, difference.elements) == (1, 32 * 128)
    wanted = tensors["backbone.layers.2.mixer.in_proj.weight"][7, 5]
    assert difference.wanted == pytest.approx(wanted, rel=2**-8)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_constant_of_the_table_is_looked_at(four_blocks, stages, tensors, precision):
    """One element of each, changed by itself, is found in its stage."""
    proto = lowered(four_blocks, precision)
    for stage in stages:
        for weight in stage.weights:
            node = next(node for node in proto.graph.node if node.name == weight.node)
            if weight.input < len(node.input):  # a bias of zeros is left out
                broken = changed_constant(proto, weight.node, weight.input)
                (difference,) = check_weights(broken, stages, tensors).differences
                assert (difference.stage, difference.differing) == (stage.title, 1), weight


def test_weights_that_blocks_share_count_for_each(four_blocks, stages, tensors):
    (difference,) = check_weights(dropped_d(four_blocks, 1), stages, tensors).differences
    assert (difference.stage, difference.wanted, difference.found) == ("Block 1, scan", 1, 0)


def test_a_bias_that_the_file_left_out_has_to_be_zero(four_blocks, stages, tensors):
    tensors["head.bias"] = np.full_like(tensors["head.bias"], 0.5)
    (difference,) = check_weights(four_blocks, stages, tensors).differences
    assert (difference.stage, difference.name, difference.found) == ("head", "head.Gemm.bias", 0)


def test_what_is_stored_otherwise_is_listed(four_blocks, stages, tensors):
    four_blocks = onnx.ModelProto.FromString(four_blocks.SerializeToString())
    next(node for node in four_blocks.graph.node if node.name == "head.Gemm").name = "renamed"
    assert check_weights(four_blocks, stages, tensors).unknown == ("head.Gemm, input 1", "head.Gemm, input 2")


def test_weights_of_another_width_differ(eager, four_blocks, stages):
    other = other_tensors(eager.info, dim=64, dt_rank=0)
    assert check_weights(four_blocks, stages, other).differences[0].stage == "patch_embed"


class TestAnySize:
    """The file stores the position embedding as its grid, and the row of the class token apart."""

    @pytest.fixture
    def stages(self, any_size_network):
        return stages_of(any_size_network.info)

    @pytest.fixture
    def tensors(self, any_size_network):
        return EagerSession(any_size_network).stored_tensors()

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_all_are_found_and_equal(self, any_size_proto, stages, tensors, precision):
        check = check_weights(lowered(any_size_proto, precision), stages, tensors)
        assert (check.compared, check.unknown, check.differences) == (5 + 2 * 10 + 1, (), ())

    @pytest.mark.parametrize(("node", "position"), [("position.Resize", 0), ("position.Where", 1), ("Where", 1)])
    def test_one_that_differs_is_named(self, any_size_proto, stages, tensors, node, position):
        broken = changed_constant(any_size_proto, node, position)
        (difference,) = check_weights(broken, stages, tensors).differences
        assert (difference.stage, difference.differing) == ("pos_embed", 1)

    def test_a_fault_in_a_block_is_named(self, any_size_proto, stages, tensors):
        (difference,) = check_weights(changed_weight(any_size_proto, 1), stages, tensors).differences
        assert (difference.stage, difference.index) == ("Block 1, in_proj", (5, 7))
