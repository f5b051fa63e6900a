import math

import pytest

from vimdeploy.parity.results import (
    DeterminismCheck,
    Deviation,
    Histogram,
    OutputErrors,
    Place,
    Side,
    Stage,
    Verification,
    WeightCheck,
    WeightDifference,
)
from vimdeploy.tasks.base import Agreement
from vimdeploy.tolerance import Tolerance

BAND = Tolerance(1e-5, "a reason")
PLACE = Place("cat.png", (3, 1), 1.0, 1.5)
GOOD, BAD = Deviation(1e-6, BAND, PLACE), Deviation(1e-3, BAND, PLACE)


def stage(kind, carried=GOOD, own=GOOD, block=0, nan=0):
    return Stage(f"layers.{block}.mixer.{kind}", f"Block {block}, {kind}", block, kind, carried, own, nan, 0)


def output(error, name="logits", **facts):
    return OutputErrors(
        **{
            "name": name,
            "largest": error,
            "place": Place("cat.png", (3,), 1.0, 1.5),
            "mean": 0.0,
            "std": 1.0,
            "cosine": 1.0,
            "histogram": Histogram((0,), ()),
            "nan": 0,
            "infinite": 0,
            "tolerance": BAND,
        }
        | facts
    )


def verification(**parts):
    facts = {
        "reference": Side("PyTorch (eager, cpu)"),
        "candidate": Side("ONNX Runtime (library, cpu)"),
        "images": 4,
        "inputs": "4 pictures",
        "outputs": (output(0.0),),
        "answers": Agreement(),
        "stages": (stage("in_proj"), stage("scan"), stage("in_proj", block=1)),
    }
    return Verification(**facts | parts)


class TestOutput:
    def test_an_error_is_relative_to_the_standard_deviation(self):
        assert output(0.5, std=4.0).relative == 0.125

    @pytest.mark.parametrize(("error", "passed"), [(0.0, True), (1e-5, True), (1.1e-5, False), (math.nan, False)])
    def test_passes_up_to_its_tolerance(self, error, passed):
        assert output(error).passed is passed

    def test_an_error_of_values_all_alike_is_infinite(self):
        assert output(0.1, std=0.0).relative == math.inf
        assert output(0.0, std=0.0).relative == 0

    def test_complains_of_its_error(self):
        assert output(0.5).complaint == (
            "an error of 0.5 standard deviations, 1e-05 is allowed (cat.png, element (3,): wanted 1, found 1.5)"
        )

    def test_complains_of_no_numbers_first(self):
        complaint = output(math.inf, nan=2, infinite=1).complaint
        assert complaint == "2 NaN and 1 infinite values, the first for cat.png"


class TestWorst:
    def test_is_the_output_that_comes_nearest_to_its_bound(self):
        wide = Tolerance(1.0, "a reason")
        outputs = (output(0.5, "map", tolerance=wide), output(9e-6, "pooled"))
        assert verification(outputs=outputs).worst.name == "pooled"

    def test_is_the_first_of_equal_ones(self):
        assert verification(outputs=(output(0.0, "map"), output(0.0, "pooled"))).worst.name == "map"


class TestStage:
    def test_passes_within_its_bands(self):
        assert stage("scan").passed
        assert stage("scan", own=None).passed

    @pytest.mark.parametrize("parts", [{"carried": BAD}, {"own": BAD}, {"nan": 1}])
    def test_fails_out_of_any(self, parts):
        assert not stage("scan", **parts).passed

    def test_nan_is_out_of_any_band(self):
        assert not stage("scan", carried=Deviation(math.nan, BAND, PLACE)).passed

    def test_complains_of_its_own_error_first(self):
        assert stage("scan", carried=BAD, own=BAD).complaint == (
            "fed with the same values as the reference, a relative error of 0.001, 1e-05 is allowed "
            "(cat.png, element (3, 1): wanted 1, found 1.5)"
        )

    def test_complains_of_no_numbers(self):
        assert stage("scan", nan=7).complaint == "7 NaN and 0 infinite values, the first in cat.png at (3, 1)"


class TestFault:
    def test_is_none_if_all_is_well(self):
        good = verification()
        assert (good.fault, good.passed) == (None, True)

    def test_is_the_first_stage_in_the_order_of_the_network(self):
        stages = (stage("in_proj"), stage("scan", own=BAD), stage("in_proj", carried=BAD, block=1))
        assert verification(stages=stages, outputs=(output(1.0),)).fault.where == "Block 0, scan"

    @pytest.mark.parametrize("stages", [(), (stage("scan"),)])
    def test_is_the_first_output_that_is_off_if_stages_are_well_or_not_known(self, stages):
        outputs = (output(0.0, "map"), output(0.5, "pooled"), output(0.7, "block_3"))
        fault = verification(stages=stages, outputs=outputs).fault
        assert (fault.where, fault.what) == ("Output pooled", outputs[1].complaint)

    @pytest.mark.parametrize("stages", [(), (stage("in_proj"), stage("scan", own=BAD))])
    def test_is_a_weight_that_differs_before_it_shows(self, stages):
        difference = WeightDifference("some.weight", "Block 0, in_proj", 1, 6, (2, 1), 0.5, 0.505)
        fault = verification(stages=stages, weights=WeightCheck(3, (), (difference,))).fault
        assert fault.where == "Block 0, in_proj"
        assert fault.what == "the file's some.weight[2, 1] is 0.505, the checkpoint's 0.5 (1 of 6 elements differ)"

    def test_is_the_stage_if_a_later_weight_differs_too(self):
        difference = WeightDifference("some.weight", "Block 1, in_proj", 1, 6, (2, 1), 0.5, 0.505)
        stages = (stage("in_proj"), stage("scan", own=BAD), stage("in_proj", block=1))
        assert verification(stages=stages, weights=WeightCheck(3, (), (difference,))).fault.where == "Block 0, scan"

    def test_is_what_changes_from_run_to_run(self):
        checks = (DeterminismCheck("alone and in a batch", 0.5, BAND),)
        fault = verification(determinism=checks).fault
        assert fault.where == "Determinism"
        assert fault.what == "alone and in a batch differ by 0.5 standard deviations, 1e-05 is allowed"
