import dataclasses
import math

import pytest

from vimdeploy.parity.results import (
    Agreement,
    DeterminismCheck,
    Deviation,
    Histogram,
    LogitErrors,
    Place,
    Proportion,
    Side,
    Stage,
    Verification,
    WeightCheck,
    WeightDifference,
)
from vimdeploy.tolerance import Tolerance

BAND = Tolerance(1e-5, "a reason")
PLACE = Place("cat.png", (3, 1), 1.0, 1.5)
GOOD, BAD = Deviation(1e-6, BAND, PLACE), Deviation(1e-3, BAND, PLACE)


def stage(kind, carried=GOOD, own=GOOD, block=0, nan=0):
    return Stage(f"layers.{block}.mixer.{kind}", f"Block {block}, {kind}", block, kind, carried, own, nan, 0)


def logits(error):
    return LogitErrors(error, Place("cat.png", (3,), 1.0, 1.5), 0.0, 1.0, 1.0, Histogram((0,), ()), 0, 0, BAND)


def verification(**parts):
    facts = {
        "reference": Side("Eager (eager, cpu)"),
        "candidate": Side("OnnxRuntime (library, cpu)"),
        "images": 4,
        "inputs": "4 pictures",
        "logits": logits(0.0),
        "answers": Agreement(Proportion(4, 4), None),
        "changed": (),
        "stages": (stage("in_proj"), stage("scan"), stage("in_proj", block=1)),
    }
    return Verification(**facts | parts)


class TestProportion:
    @pytest.mark.parametrize(
        ("count", "total", "interval"), [(5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1)), (0, 10, (0, 0.2775))]
    )
    def test_wilsons_interval(self, count, total, interval):
        """The numbers are of statistical tables."""
        assert Proportion(count, total).interval == pytest.approx(interval, abs=1e-4)

    def test_of_nothing_may_be_anything(self):
        assert Proportion(0, 0).interval == (0, 1)
        assert math.isnan(Proportion(0, 0).part)


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
            "fed with the same values as the reference, an error of 0.001 of its size, 1e-05 is allowed "
            "(cat.png, element (3, 1): wanted 1, found 1.5)"
        )

    def test_complains_of_no_numbers(self):
        assert stage("scan", nan=7).complaint == "7 NaN and 0 infinite values, the first in cat.png at (3, 1)"


class TestFault:
    def test_is_none_where_all_is_well(self):
        good = verification()
        assert (good.fault, good.passed) == (None, True)

    def test_is_the_first_stage_in_the_order_of_the_network(self):
        stages = (stage("in_proj"), stage("scan", own=BAD), stage("in_proj", carried=BAD, block=1))
        assert verification(stages=stages, logits=logits(1.0)).fault.where == "Block 0, scan"

    def test_is_the_logits_where_stages_are_well_or_not_known(self):
        for stages in ((), (stage("scan"),)):
            fault = verification(stages=stages, logits=logits(0.5)).fault
            assert fault.where == "Logits"
            assert fault.what.startswith(
                "an error of 0.5 of their spread, 1e-05 is allowed (cat.png, logit 3: wanted 1"
            )

    @pytest.mark.parametrize("stages", [(), (stage("in_proj"), stage("scan", own=BAD))])
    def test_is_a_weight_that_differs_before_it_shows(self, stages):
        difference = WeightDifference("some.weight", "Block 0, in_proj", 1, 6, (2, 1), 0.5, 0.505)
        fault = verification(stages=stages, weights=WeightCheck(3, (), (difference,))).fault
        assert fault.where == "Block 0, in_proj"
        assert fault.what == "the file's some.weight[2, 1] is 0.505, the checkpoint's 0.5 (1 of 6 elements differ)"

    def test_is_the_stage_where_a_later_weight_differs_too(self):
        difference = WeightDifference("some.weight", "Block 1, in_proj", 1, 6, (2, 1), 0.5, 0.505)
        stages = (stage("in_proj"), stage("scan", own=BAD), stage("in_proj", block=1))
        assert verification(stages=stages, weights=WeightCheck(3, (), (difference,))).fault.where == "Block 0, scan"

    def test_is_what_changes_from_run_to_run(self):
        checks = (DeterminismCheck("alone and in a batch", 0.5, BAND),)
        fault = verification(determinism=checks).fault
        assert fault.where == "Determinism"
        assert fault.what == "alone and in a batch differ by 0.5 of the logits' spread, 1e-05 is allowed"


def test_an_error_of_logits_all_alike_is_infinite():
    assert dataclasses.replace(logits(0.1), spread=0.0).relative == math.inf
