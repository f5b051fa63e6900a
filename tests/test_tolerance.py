import pytest
from helpers.answers import Answers

from vimdeploy.model_info import INT8, PRECISIONS
from vimdeploy.models import VARIANTS
from vimdeploy.networks import network_of_variant, stages_of
from vimdeploy.tolerance import (
    carried_tolerance,
    output_tolerance,
    own_tolerance,
    stage_tolerance,
    tolerance_for,
)

IN_ORDER = stages_of(network_of_variant(VARIANTS["vim_tiny_patch16_224"], 0).info)
STAGES = {stage.name: stage for stage in IN_ORDER}
ALL = (*PRECISIONS, INT8)


def test_the_bound_in_float32():
    assert tolerance_for("fp32").limit == 1e-4


@pytest.mark.parametrize(
    ("precision", "unit", "seen"), [("fp16", 2**-11, 11), ("bf16", 2**-8, 11), ("int8", 2**-5, 13)]
)
def test_the_bound_in_other_precisions_is_some_roundings(precision, unit, seen):
    assert 1.4 * seen * unit < tolerance_for(precision).limit < 3 * seen * unit


@pytest.mark.parametrize("precision", ALL)
def test_a_bound_has_its_reason(precision):
    reason = tolerance_for(precision).reason
    assert "roundings" in reason or "order" in reason


class TestOwn:
    @pytest.mark.parametrize("precision", ALL)
    def test_every_stage_has_a_band_and_its_reason(self, precision):
        for stage in STAGES.values():
            tolerance = own_tolerance(stage, precision)
            assert 0 < tolerance.limit <= 0.5
            assert "units of" in tolerance.reason

    def test_grows_with_the_length_of_a_sum(self):
        narrow, wide = (own_tolerance(STAGES[f"layers.0.mixer.{kind}"], "fp32").limit for kind in ("in_proj", "x_proj"))
        assert narrow < wide < own_tolerance(STAGES["patch_embed"], "fp32").limit

    def test_is_the_same_in_every_block(self):
        assert len({own_tolerance(s, "fp16") for s in STAGES.values() if s.kind == "scan"}) == 1

    def test_grows_with_the_type(self):
        limits = [own_tolerance(STAGES["layers.0.mixer.in_proj"], p).limit for p in ALL]
        assert limits == sorted(limits)
        assert limits[2] == 8 * limits[1]

    @pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
    def test_of_a_norm_is_that_of_float32_in_every_file(self, precision):
        norm = STAGES["layers.0.norm"]
        assert own_tolerance(norm, precision) == own_tolerance(norm, "fp32")

    def test_of_the_scan_is_that_of_float32_in_int8_files(self):
        scan = STAGES["layers.0.mixer.scan"]
        assert own_tolerance(scan, "int8") == own_tolerance(scan, "fp32")
        assert own_tolerance(scan, "fp16").limit > own_tolerance(scan, "fp32").limit


class TestCarried:
    @pytest.mark.parametrize("precision", ALL)
    def test_is_at_least_what_the_stage_may_be_off_by_itself(self, precision):
        for stage in STAGES.values():
            assert carried_tolerance(stage, IN_ORDER, precision).limit >= own_tolerance(stage, precision).limit

    def test_grows_as_the_root_of_the_blocks(self):
        first, last = (carried_tolerance(STAGES[f"layers.{i}.mixer.scan"], IN_ORDER, "fp32").limit for i in (0, 15))
        assert last == pytest.approx(4 * first)

    def test_of_the_head_is_behind_all_blocks(self):
        reason = carried_tolerance(STAGES["head"], IN_ORDER, "fp32").reason
        assert "the square root of 25 blocks" in reason

    @pytest.mark.parametrize("name", ["patch_embed", "pos_embed"])
    def test_before_the_blocks_is_that_of_no_block(self, name):
        assert "the square root of 1 blocks" in carried_tolerance(STAGES[name], IN_ORDER, "fp32").reason

    def test_in_int8_files_is_wide_behind_the_first_layer(self):
        before, behind = (carried_tolerance(STAGES[n], IN_ORDER, INT8).limit for n in ("pos_embed", "layers.0.norm"))
        assert before < 1e-3 < behind


class TestOfTwoSessions:
    """A reference that is not PyTorch has errors of its own, which are added."""

    PYTORCH, FILE, HALF = (Answers([[0]], *kind) for kind in (("eager",), ("library",), ("library", "fp16")))

    def test_outputs(self):
        assert output_tolerance(self.PYTORCH, self.HALF) == tolerance_for("fp16")
        assert output_tolerance(self.HALF, self.FILE).limit == 2**-7 + 1e-4

    @pytest.mark.parametrize("apart", [False, True])
    def test_stages(self, apart):
        stage = STAGES["layers.3.mixer.scan"]
        wide, narrow = (
            own_tolerance(stage, precision) if apart else carried_tolerance(stage, IN_ORDER, precision)
            for precision in ("fp16", "fp32")
        )
        assert stage_tolerance(stage, IN_ORDER, self.PYTORCH, self.HALF, apart) == wide
        both = stage_tolerance(stage, IN_ORDER, self.FILE, self.HALF, apart)
        assert both.limit == wide.limit + narrow.limit
        assert "of the reference" in both.reason
