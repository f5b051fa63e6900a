import dataclasses

from helpers.made import deviation, failing, features, passing, place, stages, taskless

from vimdeploy.parity.results import Deviation
from vimdeploy.report.bounds import bounds_of
from vimdeploy.tolerance import Tolerance


def test_tolerances_with_the_same_reason_share_a_bound():
    verification = passing()
    bounds = {bound.where: bound for bound in bounds_of(verification)}
    assert list(bounds) == [
        "Output logits",
        "in_proj, conv, x_proj, scan, out_proj alone",
        "Stages with the errors of earlier stages",
        "the same run twice",
        "alone and in a batch",
    ]
    assert bounds["Output logits"].reason == verification.worst.tolerance.reason
    assert bounds["alone and in a batch"].highest == 1e-5


def test_outputs_with_the_same_reason_share_a_bound():
    assert bounds_of(features())[0].where == "Outputs map, pooled, block_5"


def test_without_stages_and_checks_only_the_output_has_a_bound():
    assert [bound.where for bound in bounds_of(taskless(stages=(), determinism=()))] == ["Output y"]


def test_the_reason_is_that_of_the_widest_band():
    narrow, wide = deviation(0, 1e-6), Deviation(0, Tolerance(1e-4, "of 24 blocks"), place())
    both = tuple(dataclasses.replace(stages(1)[0], own=None, carried=carried) for carried in (narrow, wide))
    (bound,) = [bound for bound in bounds_of(passing(stages=both)) if bound.where.startswith("Stages")]
    assert (bound.lowest, bound.highest, bound.reason) == (1e-6, 1e-4, "of 24 blocks")


def test_many_blocks_have_few_bounds():
    assert len(bounds_of(failing(stages=stages(48)))) == len(bounds_of(failing(stages=stages(1))))
